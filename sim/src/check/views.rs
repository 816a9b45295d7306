//! LOG-7: is there one view of each number, and does a finalized shard stay as it ended? No cut adds to it, and nobody
//! revives it.

use super::{Verdict, promise};
use std::collections::BTreeMap;
use zoolog_core::cut::Cut;
use zoolog_core::view::{Final, ShardState, View};
use zoolog_core::{ShardId, ViewNumber};

/// All views that any leader stated.
#[derive(Debug, Default)]
pub struct Views {
    views: BTreeMap<ViewNumber, View>,
    finals: BTreeMap<ShardId, Final>,
    /// Longest that any cut made each lane of a shard.
    lens: BTreeMap<ShardId, Vec<u64>>,
}

impl Views {
    /// A node states a view.
    pub fn stated(&mut self, view: &View) -> Verdict {
        if let Some(before) = self.views.get(&view.number) {
            promise!("LOG-7", before == view, "two views of one number: {before:?} and {view:?}");
            return Ok(());
        }
        for shard in &view.shards {
            match (&shard.state, self.finals.get(&shard.id)) {
                (ShardState::Finalized(end), Some(before)) => {
                    promise!("LOG-7", before == end, "shard {} ends as {end:?}, it was {before:?}", shard.id);
                }
                (ShardState::Finalized(end), None) => {
                    let cut = self.lens.get(&shard.id).into_iter().flatten();
                    let covers = cut.zip(&end.lens).all(|(cut, end)| cut <= end);
                    promise!(
                        "LOG-7",
                        covers,
                        "shard {} ends as {end:?}, cuts went to {:?}",
                        shard.id,
                        self.lens
                    );
                    self.finals.insert(shard.id, end.clone());
                }
                (ShardState::Live, Some(_)) => {
                    let later = self
                        .views
                        .range(view.number..)
                        .any(|(_, v)| v.shard(shard.id).is_none_or(|s| s.state != ShardState::Live));
                    promise!(
                        "LOG-7",
                        later,
                        "shard {} takes appends again in view {}",
                        shard.id,
                        view.number
                    );
                }
                (ShardState::Live, None) => {}
            }
        }
        self.views.insert(view.number, view.clone());
        Ok(())
    }

    /// A cut was announced.
    pub fn cut(&mut self, cut: &Cut) -> Verdict {
        for l in &cut.lanes {
            let (shard, i) = (l.lane.shard(), usize::from(l.lane.index()));
            if let Some(end) = self.finals.get(&shard) {
                let within = end.lens.get(i).is_some_and(|len| l.to <= *len);
                promise!("LOG-7", within, "cut {cut:?} adds to lane {}, which ended as {end:?}", l.lane);
            }
            let lens = self.lens.entry(shard).or_default();
            lens.resize(lens.len().max(i + 1), 0);
            lens[i] = lens[i].max(l.to);
        }
        Ok(())
    }

    /// The newest of all.
    pub fn newest(&self) -> Option<&View> {
        self.views.last_key_value().map(|(_, v)| v)
    }

    /// Whether that shard was stated to be finalized.
    pub fn is_final(&self, shard: ShardId) -> bool {
        self.finals.contains_key(&shard)
    }

    /// Shards that were finalized.
    pub fn finalized(&self) -> usize {
        self.finals.len()
    }
}
