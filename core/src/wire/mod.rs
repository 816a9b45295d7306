//! What do nodes say to each other? Every message, in one table (`messages!`), and how a frame carries
//! it: [`frame`] has the header, [`messages`] the bodies.
//!
//! A message is a small rkyv body and, for some, a *payload* of raw batches behind it, which is never
//! copied into the body. Those listed as short have bytes of their own in a frame of their own: they come hundreds of
//! times a second, to everybody.

pub mod frame;
pub mod messages;

pub use frame::{HEADER_BYTES, frame_length, kind};
pub use messages::*;

use crate::error::WireError;
use bytes::Bytes;

macro_rules! messages {
    ($( $(#[$doc:meta])* $kind:literal $name:ident; )*
     short: $( $(#[$short_doc:meta])* $short_kind:literal $short:ident; )*) => {
        /// Any message. The numbers are stable; a retired one is never given to another.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Message {
            $( $(#[$doc])* $name(messages::$name), )*
            $( $(#[$short_doc])* $short(messages::$short), )*
        }

        impl Message {
            /// Its number on the wire.
            pub const fn kind(&self) -> u16 {
                match self {
                    $( Message::$name(_) => $kind, )*
                    $( Message::$short(_) => $short_kind, )*
                }
            }

            /// Its name, for logs.
            pub const fn name(&self) -> &'static str {
                match self {
                    $( Message::$name(_) => stringify!($name), )*
                    $( Message::$short(_) => stringify!($short), )*
                }
            }

            /// Whether it goes in a short frame.
            const fn is_short(&self) -> bool {
                matches!(self, $( Message::$short(_) )|*)
            }

            /// Writes the body behind what is in `out`.
            fn body(&self, out: Vec<u8>) -> Vec<u8> {
                use rkyv::{api::high::to_bytes_in, rancor::Error};
                match self {
                    $( Message::$name(m) => to_bytes_in::<_, Error>(m, out), )*
                    $( Message::$short(m) => Ok(m.pack(out)), )*
                }
                .expect("our own messages serialize")
            }

            fn decode_body(kind: u16, body: &[u8]) -> Result<Message, WireError> {
                match kind {
                    $( $kind => rkyv::from_bytes::<messages::$name, rkyv::rancor::Error>(body)
                        .map(Message::$name)
                        .map_err(|_| WireError::Body { kind, bytes: body.len() }), )*
                    _ => Err(WireError::Kind(kind)),
                }
            }

            fn decode_short(kind: u16, body: &[u8]) -> Result<Message, WireError> {
                match kind {
                    $( $short_kind => messages::$short::unpack(body)
                        .map(Message::$short)
                        .ok_or(WireError::Body { kind, bytes: body.len() }), )*
                    _ => Err(WireError::Kind(kind)),
                }
            }
        }

        $( impl From<messages::$name> for Message {
            fn from(m: messages::$name) -> Message { Message::$name(m) }
        } )*

        $( impl From<messages::$short> for Message {
            fn from(m: messages::$short) -> Message { Message::$short(m) }
        } )*

        /// Number and name of every message, for PROTOCOL.md's test.
        pub const TABLE: &[(u16, &str)] = &[
            $( ($kind, stringify!($name)), )*
            $( ($short_kind, stringify!($short)), )*
        ];
    };
}

messages! {
    /// First on every connection, from who dialled it.
    1 Hello;
    /// The answer to a frame that makes going on pointless; the connection is then closed.
    2 Refused;
    /// Any node: how are you?
    3 Status;
    /// The answer, as JSON.
    4 StatusIs;
    /// Any client: how long do your stages take? Answered by `StatusIs`.
    5 Stages;

    /// Slot -> orderer: here I am.
    10 Register;
    /// Slot -> leader: what I hold durably.
    11 Report;
    /// Orderer -> any: ask there.
    12 NotLeader;
    /// Leader -> slots and subscribers: the shards.
    13 ViewIs;
    /// Leader -> slots and subscribers: what a cut adds.
    14 CutIs;
    /// Leader -> slot: the parts of a shard it may have missed.
    15 PartsAre;
    /// Subscriber -> leader: send me the cuts.
    16 WatchCuts;
    /// The answer: the order so far; cuts follow.
    17 OrderIs;
    /// Any -> leader: which GSN comes next?
    18 Tail;
    /// The answer.
    19 TailIs;
    /// Orderer -> orderer: raft's own bytes, as payload.
    20 Raft;
    /// Client -> leader: I am this consumer, and need nothing before there.
    21 Consumer;
    /// The answer.
    22 ConsumerIs;
    /// Any client -> leader: that consumer is gone for good.
    23 ForgetConsumer;
    /// Leader -> slot: nothing before this is read any more.
    24 TrimIs;
    /// Any client -> leader: forget everything before there.
    25 Trim;
    /// The answer: what came of it.
    26 TrimAnswer;
    /// Slot -> leader: how much I hold, from where on, and how much room my disk has.
    27 Held;
    /// Primary -> writer, backup -> primary: how much room there is for a lane.
    28 Room;
    /// Subscriber -> leader: send me the views, but no cuts. Answered by `OrderIs`.
    29 WatchViews;

    /// Writer -> primary: one batch, as payload.
    30 Append;
    /// The answer, once ordered.
    31 Appended;
    /// The answer, when it can't be.
    32 AppendRefused;
    /// Primary -> backup: placed batches, as payload.
    33 Replicate;
    /// Primary -> backup: forget older streams of this lane; what do you hold?
    34 Sync;
    /// The answer.
    35 Synced;
    /// Primary -> backup, after a restart: give me what you hold beyond mine.
    36 FetchLane;
    /// The answer: placed batches, as payload.
    37 LaneIs;
    /// Primary -> backup, instead of what was trimmed: go on from there.
    38 LaneBase;

    /// Reader -> replica: the shard's records of a range of GSNs.
    40 Read;
    /// The answer: placed batches, as payload.
    41 ReadIs;
    /// Subscriber -> replica: push what becomes durable.
    42 Subscribe;
    /// Subscriber -> replica: you may push this much more.
    43 Credit;
    /// Replica -> subscriber: placed batches, as payload.
    44 Push;

    /// Operator -> leader: end that shard.
    50 Finalize;
    /// Operator -> leader: so many shards are to take appends.
    51 WantShards;
    /// The answer.
    52 Decided;
    /// Writer -> replica: which of my batches are in that lane for good?
    53 Resolve;
    /// The answer.
    54 Resolved;
    /// Writer -> replica -> primary: a batch that ends the writer's use of a lane, as payload.
    55 Fence;
    /// Writer -> leader: that name is mine from now on.
    56 OpenWriter;
    /// Writer -> leader: my opening of that name uses this lane.
    57 ClaimLane;
    /// The answer.
    58 WriterIs;
    /// Leader -> slots and subscribers: the orderers.
    60 OrderersAre;
    /// Orderer -> orderer, behind `Hello`: which data directory speaks.
    61 Introduce;
    /// Any client -> leader: change the orderers.
    62 ChangeOrderers;
    /// The answer.
    63 OrderersChanged;

    /// Replica -> replica: give me batches that I lost.
    70 BatchesWanted;
    /// The answer: placed batches, as payload.
    71 BatchesAre;
    /// Replica -> replica: give me parts that I lost.
    72 PartsWanted;
    /// The answer.
    73 PartsHeld;
    /// Slot -> leader: I live, and am mending what I lost.
    74 Recovering;
    /// Leader -> slot: the parts that you lack are not kept here, another replica has them.
    75 PartsGone;

    /// Operator -> leader: make a copy in place of the lost one of that shard.
    80 RebuildShard;

    /// Any client -> leader: your log goes on there, where another has ended. Or: does it wait for that?
    85 Begin;
    /// The answer: where it begins.
    86 BeginIs;
    /// Any client -> leader: your log ends here, and goes on there.
    87 Seal;
    /// The answer; to subscribers, behind the last cut; and to who asks for the tail of a log that has ended.
    88 SealedIs;
    /// Subscriber -> leader: send me what cuts add. Answered by `OrderIs`.
    89 WatchGrowth;

    /// Node -> leader: my newest snapshot is to be had there.
    90 Offer;
    /// Node -> leader: who offers snapshots?
    91 FindOffers;
    /// The answer.
    92 OffersAre;
    /// Node -> node: which snapshot do you have, or: a piece of it.
    93 SnapshotWanted;
    /// The answer: a piece, as payload.
    94 SnapshotIs;

    short:
    /// Leader -> subscribers: what a cut adds to those before it.
    95 Grown;
}

/// A message with its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// The message.
    pub message: Message,
    /// Raw batches, for the kinds that carry them; else empty.
    pub payload: Bytes,
}

/// Encodes a message without payload.
pub fn encode(message: impl Into<Message>) -> Bytes {
    encode_with(message, &[])
}

/// Encodes a message with `payload`, given in parts.
///
/// # Panics
/// If the frame would exceed [`FRAME_BYTES_MAX`](crate::limits::FRAME_BYTES_MAX): senders cut their payloads; or if there is one and
/// the message goes in a short frame.
pub fn encode_with(message: impl Into<Message>, payload: &[&[u8]]) -> Bytes {
    encode_ref(&message.into(), payload)
}

/// Encodes a message that its owner goes on using.
///
/// # Panics
/// As [`encode_with`].
pub fn encode_ref(message: &Message, payload: &[&[u8]]) -> Bytes {
    // Bodies are written where the last one was, so that a frame costs one allocation, of its exact length.
    let mut body = message.body(SCRATCH.take());
    let frame = match message.is_short() {
        true => {
            assert!(payload.is_empty(), "a short frame has no payload");
            frame::encode_short(message.kind(), &body)
        }
        false => frame::encode(message.kind(), &body, payload),
    };
    if body.capacity() <= SCRATCH_BYTES_MAX {
        body.clear();
        SCRATCH.set(body);
    }
    frame
}

/// Bytes of a body beyond which its memory is given back.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static SCRATCH: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

/// Decodes one whole frame of foreign bytes.
///
/// # Errors
/// Whatever is wrong with it: close the connection it came on.
pub fn decode(frame: Bytes) -> Result<Packet, WireError> {
    let frame::Checked { kind, body, payload, is_short } = frame::check(frame)?;
    let message = match is_short {
        true => Message::decode_short(kind, &body)?,
        false => Message::decode_body(kind, &body)?,
    };
    Ok(Packet { message, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cut::{Cut, CutLane};
    use crate::ids::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_comes_back_with_its_payload() {
        let m = Replicate { lane: LaneId::new(ShardId(3), 1), incarnation: Incarnation(2), stream: 9 };
        let bytes = encode_with(m.clone(), &[b"12345678", b"abc"]);
        assert_eq!(frame_length(&bytes, usize::MAX).unwrap(), Some(bytes.len()));
        let packet = decode(bytes).unwrap();
        assert_eq!(packet.message, Message::Replicate(m));
        assert_eq!(&packet.payload[..], b"12345678abc");
    }

    #[test]
    fn numbers_are_unique_and_ascending() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    proptest! {
        /// SYS-1: any flipped bit in header or body is noticed, and nothing panics.
        #[test]
        fn damage_is_refused(bit in 0usize..(HEADER_BYTES + 16) * 8) {
            let whole = encode(TailIs { request: 7, gsn: Gsn(1 << 40) });
            let mut bytes = whole.to_vec();
            prop_assume!(bit / 8 < bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(Bytes::from(bytes)).is_err());
        }

        #[test]
        fn damage_of_a_short_frame_is_refused(bit in 0usize..24 * 8) {
            let lanes = [1, 2, 3].map(|n| CutLane { lane: LaneId::new(ShardId(n), 1), from: 700, to: 1000 });
            let cut = Cut { number: CutNumber(9), base: Gsn(1 << 40), view: ViewNumber(3), lanes: lanes.to_vec() };
            let whole = encode(Grown::of(&cut).unwrap());
            prop_assert_eq!(frame_length(&whole[..4], usize::MAX).unwrap(), Some(24));
            prop_assert_eq!(whole.len(), 24);
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Padding says nothing.
            let of_padding = bit / 8 >= 8 + usize::from(whole[3]);
            prop_assert_eq!(decode(Bytes::from(bytes)).is_err(), !of_padding);
        }

        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(Bytes::from(bytes)).is_err());
        }
    }
}
