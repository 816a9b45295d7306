//! What does a place in the log tell about the log? The decision table of recovery.
//!
//! Recovery goes from block to block. At each place it looks at what is *there*; if that doesn't continue
//! the log, at whether the segment was *sealed* here or *continues* in the next; and last at what is
//! *later* in the log. The first line that fits decides.
//!
//! | case | there | sealed here | next continues | later | verdict |
//! |---|---|---|---|---|---|
//! | A | block that follows | | | | take it |
//! | B | other cluster | | | | refuse |
//! | C | other node | | | | refuse |
//! | D | newer version | | | | refuse |
//! | E | anything else | yes | | | next segment |
//! | F | anything else | no | yes | | next segment |
//! | G | anything else | no | no | proof | damage: go on at the later block |
//! | H | nothing, or no file | no | no | nothing | clean end |
//! | I | nothing, or stale block | no | no | unproven | torn end: the last group's first blocks are lost |
//! | J | stale block | no | no | nothing | clean end: it is behind a rewritten tail |
//! | K | wrong block | no | no | no proof | torn end |
//! | L | bad header | no | no | no proof | torn end |
//! | M | bad content | no | no | no proof | torn end |
//!
//! A block **follows** if its sequence is the next, and it is the next of its group, or the first of the
//! next group, or the first of the next group by a newer incarnation that opens. It is **stale** if an older
//! incarnation wrote it: blocks of an older one never follow a newer one's. A later good block is **proof**
//! if it was written by this or a newer incarnation and says `synced_through` at or past the group that
//! belongs here: what is here was durable once. Without proof nobody was promised anything about it, with
//! one exception: whether the last group of the log was synced is only said by the block behind it, which
//! the next group or, after a second, the idle block brings. Until then its rot can't be told from a torn
//! write.
//!
//! Cases of whole files: **N** a segment is missing between others, refuse, unless the newest checkpoint says that
//! it, and all before it, are not needed, or may have said so and can't be read: then what is left of those is ignored;
//! **O** older segments are
//! deleted and no checkpoint is readable, refuse; **P** a segment doesn't open with a good checkpoint
//! (torn roll, or damage), an older one is used; **Q** the index of a sealed segment can't be read, its
//! blocks are; **R** bytes, but no block at all, refuse; **S** a file begins with the first block of another segment of
//! this log, refuse: files were swapped or copied; **T** the log ends where its file has no room for the index any
//! more, or with a block that goes beyond the file: the file is cut off, damage.

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// The block follows.
    A,
    /// Another cluster's.
    B,
    /// Another node's.
    C,
    /// A newer build's.
    D,
    /// The segment is sealed.
    E,
    /// A full segment was left without a seal, and reopened in the next.
    F,
    /// Damage.
    G,
    /// Clean end.
    H,
    /// Torn end: nothing here, but blocks of the last group behind.
    I,
    /// Clean end, older blocks behind.
    J,
    /// Torn end: a block out of order.
    K,
    /// Torn end: a header.
    L,
    /// Torn end: content.
    M,
}

/// What is at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// A good block that follows.
    Follows,
    /// A good header of another cluster.
    Cluster,
    /// A good header of another node.
    Node,
    /// A good header of a newer version.
    Newer,
    /// Zeros, or the end of the file, or no file.
    Nothing,
    /// A good block of an older incarnation.
    Stale,
    /// A good block that is neither stale nor next.
    Wrong,
    /// Not a header, or damaged.
    BadHeader,
    /// A good header, and damaged content.
    BadContent,
}

/// What is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// No block of this or a newer incarnation.
    Nothing,
    /// Such blocks, none of which says that this place was synced.
    Unproven,
    /// A block that says so.
    Proof,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take the block and go behind it.
    Take,
    /// Don't open the log.
    Refuse,
    /// Go to the next segment.
    NextSegment,
    /// Report or refuse, then go on at the later block.
    Damage,
    /// The log ends here; nothing is missing.
    Clean,
    /// The log ends here; what is missing was never promised.
    Torn,
}

/// The table.
pub fn judge(there: There, sealed: bool, continues: bool, later: Later) -> (Case, Verdict) {
    match (there, sealed, continues, later) {
        (There::Follows, ..) => (Case::A, Verdict::Take),
        (There::Cluster, ..) => (Case::B, Verdict::Refuse),
        (There::Node, ..) => (Case::C, Verdict::Refuse),
        (There::Newer, ..) => (Case::D, Verdict::Refuse),
        (_, true, ..) => (Case::E, Verdict::NextSegment),
        (_, false, true, _) => (Case::F, Verdict::NextSegment),
        (_, false, false, Later::Proof) => (Case::G, Verdict::Damage),
        (There::Nothing, .., Later::Nothing) => (Case::H, Verdict::Clean),
        (There::Nothing | There::Stale, .., Later::Unproven) => (Case::I, Verdict::Torn),
        (There::Stale, .., Later::Nothing) => (Case::J, Verdict::Clean),
        (There::Wrong, ..) => (Case::K, Verdict::Torn),
        (There::BadHeader, ..) => (Case::L, Verdict::Torn),
        (There::BadContent, ..) => (Case::M, Verdict::Torn),
    }
}
