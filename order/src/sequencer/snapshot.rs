//! How does the replicated state travel, in checkpoints and to members that lag? Versioned rkyv, checked
//! as a foreign value when it comes back.

use super::retention::RetentionImage;
use super::{Member, Members, Named, Parts, Seal, SlotEntry, State, Succession, invariants};
use zoolog_core::cut::ShardPart;
use zoolog_core::view::View;
use zoolog_core::{ClusterId, CutNumber, Gsn, LaneId, OrdererId, ShardId, SlotId};

const VERSION: u8 = 5;
/// Of a log that follows another: 9 bytes say where it begins, and an image of [`VERSION`] follows.
const SUCCESSOR: u8 = 6;
/// Of a log that has ended: where and what follows it, and one of the other two.
const SEALED: u8 = 7;

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Image {
    cluster: ClusterId,
    slots: Vec<(SlotId, SlotEntry)>,
    view: View,
    next_shard: ShardId,
    number: CutNumber,
    tail: Gsn,
    lens: Vec<(LaneId, u64)>,
    parts: Vec<ShardImage>,
    consumers: Vec<(String, Gsn)>,
    trim: Gsn,
    retention: RetentionImage,
    wanted: Option<u32>,
    gone: u64,
    names: Vec<(String, Named)>,
    members: Vec<(OrdererId, Member)>,
    newest_member: OrdererId,
    replacing: Option<(OrdererId, OrdererId)>,
    parting: Option<(OrdererId, String)>,
    member_changes: u64,
}

/// What is kept of a shard's order.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct ShardImage {
    shard: ShardId,
    known: CutNumber,
    span: Option<(Gsn, Gsn)>,
    parts: Vec<ShardPart>,
}

impl State {
    /// The whole state as bytes, the same for equal states.
    pub fn encode(&self) -> Vec<u8> {
        let image = Image {
            cluster: self.cluster,
            slots: self.slots.iter().map(|(s, e)| (*s, e.clone())).collect(),
            view: self.view.clone(),
            next_shard: self.next_shard,
            number: self.number,
            tail: self.tail,
            lens: self.lanes().collect(),
            parts: (self.view.shards.iter().zip(&self.parts))
                .map(|(s, p)| ShardImage {
                    shard: s.id,
                    known: p.known,
                    span: p.span,
                    parts: p.after(CutNumber(0)).collect(),
                })
                .collect(),
            consumers: self.consumers.iter().map(|(name, at)| (name.clone(), *at)).collect(),
            trim: self.trim,
            wanted: self.wanted,
            gone: self.gone,
            names: self.names.iter().map(|(name, n)| (name.clone(), n.clone())).collect(),
            retention: self.retention.image(),
            members: self.members.iter().map(|(id, m)| (id, m.clone())).collect(),
            newest_member: self.members.newest,
            replacing: self.members.replacing,
            parting: self.members.parting.clone(),
            member_changes: self.members.changes,
        };
        let body = rkyv::to_bytes::<rkyv::rancor::Error>(&image).expect("our own state serializes");
        let mut out = Vec::with_capacity(1 + body.len());
        if let Some(seal) = &self.seal {
            out.push(SEALED);
            seal.encode(&mut out);
        }
        if self.succession != Succession::Own {
            out.push(SUCCESSOR);
            out.extend_from_slice(&self.succession.encode());
        }
        out.push(VERSION);
        out.extend_from_slice(&body);
        out
    }

    /// The state in `bytes`.
    ///
    /// # Errors
    /// When it is of another cluster or version, or contradicts itself; says how.
    pub fn decode(cluster: ClusterId, bytes: &[u8]) -> Result<Self, String> {
        let (seal, bytes) = match bytes {
            [SEALED, rest @ ..] => {
                let (seal, rest) =
                    Seal::decode(rest).ok_or("an image that doesn't say where its log ended")?;
                (Some(seal), rest)
            }
            bytes => (None, bytes),
        };
        let (succession, bytes) = match bytes {
            [SUCCESSOR, rest @ ..] => {
                let (said, rest) = rest.split_first_chunk::<9>().ok_or("an image that ends too early")?;
                let said = Succession::decode(*said).filter(|s| *s != Succession::Own);
                (said.ok_or("an image that doesn't say where its log begins")?, rest)
            }
            bytes => (Succession::Own, bytes),
        };
        let (&version, body) = bytes.split_first().ok_or("an empty image")?;
        if version != VERSION {
            return Err(format!("an image of version {version}, this build reads {VERSION}"));
        }
        let image = rkyv::from_bytes::<Image, rkyv::rancor::Error>(body)
            .map_err(|_| format!("{} bytes that are no image", bytes.len()))?;
        if image.cluster != cluster {
            return Err(format!("an image of cluster {:032x}, ours is {:032x}", image.cluster.0, cluster.0));
        }
        let mut state = Self {
            cluster,
            slots: image.slots.into_iter().collect(),
            parts: image.view.shards.iter().map(|s| Parts::new(s.replicas.len())).collect(),
            view: image.view,
            next_shard: image.next_shard,
            number: image.number,
            tail: image.tail,
            consumers: image.consumers.into_iter().collect(),
            trim: image.trim,
            wanted: image.wanted,
            gone: image.gone,
            names: image.names.into_iter().collect(),
            retention: image.retention.restore(),
            members: Members {
                list: image.members.into_iter().collect(),
                newest: image.newest_member,
                replacing: image.replacing,
                parting: image.parting,
                changes: image.member_changes,
            },
            succession,
            seal,
        };
        state.fill(image.lens, image.parts)?;
        invariants::all(&state)?;
        Ok(state)
    }

    /// Puts lengths and parts where their shards are.
    fn fill(&mut self, lens: Vec<(LaneId, u64)>, parts: Vec<ShardImage>) -> Result<(), String> {
        let mut at = 0;
        for (lane, len) in lens {
            let shard = self.position(&mut at, lane.shard());
            at = shard.unwrap_or(0);
            let place = shard.and_then(|i| self.parts[i].lens.get_mut(usize::from(lane.index())));
            *place.ok_or_else(|| format!("ORD-3: a length for the unknown lane {lane}"))? = len;
        }
        at = 0;
        for ShardImage { shard, known, span, parts: list } in parts {
            let Some(i) = self.position(&mut at, shard) else {
                return Err(format!("ORD-4: parts of the unknown shard {shard}"));
            };
            (self.parts[i].known, self.parts[i].span) = (known, span);
            if !list.iter().all(|part| self.parts[i].restore(part)) {
                return Err(format!("ORD-4: parts of shard {shard} have other lanes than it has"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::formed;
    use super::super::{Command, ProposedCut};
    use super::*;
    use proptest::prelude::*;

    fn some_state() -> State {
        let mut s = formed(3, 3, 2);
        for i in 1..20u64 {
            let lane = LaneId::new(ShardId((i % 3) as u32 + 1), (i % 2) as u8);
            let known = vec![(lane.shard(), CutNumber(i / 2))];
            s.apply(&Command::Cut(ProposedCut { lanes: vec![(lane, i)], known }).encode());
        }
        s
    }

    #[test]
    fn a_state_comes_back_equal_and_goes_on_equally() {
        let mut a = some_state();
        let mut b = State::decode(a.cluster, &a.encode()).unwrap();
        assert_eq!(a, b);
        let next = Command::Cut(ProposedCut { lanes: vec![(LaneId::new(ShardId(2), 0), 99)], known: vec![] });
        assert_eq!(a.apply(&next.encode()), b.apply(&next.encode()));
        assert_eq!(a, b);
    }

    #[test]
    fn another_clusters_state_is_refused_by_name() {
        let s = some_state();
        let e = State::decode(ClusterId(77), &s.encode()).unwrap_err();
        assert!(e.contains("of cluster"), "{e}");
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let mut s = some_state();
        s.tail = s.tail.plus(1);
        assert!(State::decode(s.cluster, &s.encode()).unwrap_err().starts_with("ORD-2"));
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..4096, bit in 0u8..8, cut in 0usize..4096) {
            let s = some_state();
            let mut bytes = s.encode();
            let len = bytes.len();
            bytes[at % len] ^= 1 << bit;
            let _ = State::decode(s.cluster, &bytes);
            let short = State::decode(s.cluster, &s.encode()[..cut % len]);
            prop_assert!(short.is_err());
        }
    }
}
