//! Who is asked for what is lost? The slot's side of mending.

use super::Slot;
use crate::effects::Refusal;
use zoolog_core::SlotId;
use zoolog_core::machine::ConnId;
use zoolog_core::wire::{Message, RefusedWhy};

impl Slot {
    /// Another replica lost something.
    ///
    /// # Errors
    /// The connection is to be refused.
    pub(super) fn on_wanted(&mut self, conn: ConnId, slot: SlotId, message: &Message) -> Result<(), Refusal> {
        let shard = match message {
            Message::BatchesWanted(m) => m.lane.shard(),
            Message::PartsWanted(m) => m.shard,
            other => return Err(super::unexpected(other)),
        };
        let Some(replica) = self.replicas.get_mut(&shard) else {
            return Err(Refusal::new(RefusedWhy::NotReady, format!("shard {shard} is not known here yet")));
        };
        if !replica.slots.contains(&slot) {
            let text = format!("slot {slot} has no replica of shard {shard}");
            return Err(Refusal::new(RefusedWhy::Invalid, text));
        }
        match message {
            Message::BatchesWanted(m) => replica.batches_wanted(&mut self.fx, conn, m)?,
            Message::PartsWanted(m) => replica.parts_wanted(&mut self.fx, conn, m),
            _ => {}
        }
        Ok(())
    }
}
