//! How much may all connections of an executor have waiting together? As long as that is not too much, each as much as one
//! may. From then on until it is half of that, those are not read from that have more than their part of it; all who have
//! less go on. So the bound costs those who fill it, and together they stay near it.

/// What waits of all connections.
#[derive(Debug)]
pub(super) struct Pending {
    max_bytes: usize,
    bytes: usize,
    /// Connections of which something waits.
    conns: usize,
    tight: bool,
}

impl Pending {
    pub(super) const fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, conns: 0, tight: false }
    }

    /// Of one connection so many bytes wait, where so many did. Returns whether what others may have has changed so much
    /// that all are to be looked at.
    pub(super) fn changed(&mut self, before: usize, now: usize) -> bool {
        self.bytes = self.bytes + now - before;
        self.conns = self.conns + usize::from(now > 0) - usize::from(before > 0);
        let was = self.tight;
        self.tight = self.bytes > if was { self.max_bytes / 2 } else { self.max_bytes };
        self.tight != was
    }

    /// Bytes that may wait of one connection, which may have `max_bytes` at most.
    pub(super) fn share(&self, max_bytes: usize) -> usize {
        if self.tight { max_bytes.min(self.max_bytes / self.conns.max(1)) } else { max_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_while_it_is_too_much_and_until_it_is_half() {
        let mut p = Pending::new(1000);
        assert!(!p.changed(0, 900) && !p.changed(0, 100));
        assert_eq!(p.share(950), 950);
        assert!(p.changed(100, 150));
        assert_eq!((p.share(950), p.share(300)), (500, 300));
        assert!(!p.changed(0, 10) && p.share(950) == 333);
        assert!(!p.changed(900, 400));
        assert!(p.changed(400, 300));
        assert_eq!(p.share(950), 950);
        assert!(!p.changed(300, 0) && !p.changed(150, 0) && !p.changed(10, 0));
        assert_eq!((p.bytes, p.conns), (0, 0));
    }
}
