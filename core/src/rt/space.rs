//! How much room has a log's disk? The file system is asked, and a quota counted; both against a reserve.

use crate::wire::DiskRoom;
use std::path::Path;

/// How much of a disk a log may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceLimits {
    /// With fewer bytes free the disk is low, with fewer than half of them it is full; but a quarter of the
    /// disk at most. 0: never.
    pub reserve_bytes: u64,
    /// Bytes that the log's segments may take, as if the disk were no larger. 0: as many as there are.
    pub quota_bytes: u64,
    /// Whether the node ends when its log has stood still for want of room for a while, rather than wait for it: right
    /// where others can do its work.
    pub ends_when_stuck: bool,
}

/// What a look at a disk has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes that may still be taken.
    pub free: u64,
    /// Bytes there are in all.
    pub total: u64,
}

impl Space {
    /// Looks at the file system of `dir`, where a log takes `used` bytes. A call into the kernel that reads no disk.
    pub fn look(dir: &Path, used: u64, limits: &SpaceLimits) -> std::io::Result<Self> {
        let s = rustix::fs::statvfs(dir)?;
        let mut space = Self {
            free: s.f_bavail.saturating_mul(s.f_frsize),
            total: s.f_blocks.saturating_mul(s.f_frsize),
        };
        if limits.quota_bytes > 0 {
            space.total = space.total.min(limits.quota_bytes);
            space.free = space.free.min(limits.quota_bytes.saturating_sub(used));
        }
        Ok(space)
    }

    /// What that amounts to. Once it is short, it must be a quarter more than that before it is better.
    pub fn room(self, limits: &SpaceLimits, before: DiskRoom) -> DiskRoom {
        let reserve = limits.reserve_bytes.min(self.total / 4);
        let short_of = |bytes: u64, was: bool| self.free < if was { bytes + bytes / 4 } else { bytes };
        if short_of(reserve / 2, before == DiskRoom::Full) {
            DiskRoom::Full
        } else if short_of(reserve, before >= DiskRoom::Low) {
            DiskRoom::Low
        } else {
            DiskRoom::Ample
        }
    }
}

/// Whether something failed because there is no room.
pub(super) fn is_full(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SpaceLimits = SpaceLimits { reserve_bytes: 1000, quota_bytes: 0, ends_when_stuck: false };

    #[test]
    fn room_is_short_below_the_reserve_and_back_a_quarter_above() {
        use DiskRoom::*;
        let at = |free, before| Space { free, total: 1 << 40 }.room(&LIMITS, before);
        assert_eq!(
            (at(1000, Ample), at(999, Ample), at(500, Ample), at(499, Ample)),
            (Ample, Low, Low, Full)
        );
        assert_eq!((at(1249, Low), at(1250, Low), at(624, Full), at(625, Full)), (Low, Ample, Full, Low));
        assert_eq!(at(1250, Full), Ample);
        let none = SpaceLimits::default();
        assert_eq!(Space { free: 0, total: 1 << 40 }.room(&none, Ample), Ample);
        let small = |free| Space { free, total: 2000 }.room(&LIMITS, Ample);
        assert_eq!((small(500), small(499), small(249)), (Ample, Low, Full), "a quarter of a small disk");
    }

    #[test]
    fn a_quota_is_a_smaller_disk() {
        let dir = tempfile::tempdir().unwrap();
        let real = Space::look(dir.path(), 0, &LIMITS).unwrap();
        assert!(real.total > 0 && real.free <= real.total);
        let limits = SpaceLimits { quota_bytes: 1 << 20, ..LIMITS };
        let space = Space::look(dir.path(), 1 << 19, &limits).unwrap();
        assert!(space.total <= 1 << 20 && space.free <= 1 << 19, "{space:?}");
        assert_eq!(Space::look(dir.path(), 2 << 20, &limits).unwrap().free, 0);
    }
}
