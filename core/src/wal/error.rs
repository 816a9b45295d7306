//! Why can't a log be opened, or a record not be had? Each text says what, where, and the cure.

use super::segment_file_name;
use crate::ids::ClusterId;

/// A log that can't be used as it is. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The files can't be read.
    #[error("reading the write-ahead log{}: {error}; check the disk and the directory's owner", at(*segment, *offset))]
    Io {
        /// In which segment; `None`: listing them.
        segment: Option<u32>,
        /// Where in it.
        offset: u64,
        /// What the system said.
        error: std::io::Error,
    },
    /// The files are another cluster's.
    #[error(
        "{} belongs to cluster {:032x}, this node to {:032x}; point the node at its own data directory",
        segment_file_name(*segment), found.0, ours.0
    )]
    Cluster {
        /// The segment.
        segment: u32,
        /// In it.
        found: ClusterId,
        /// This node's.
        ours: ClusterId,
    },
    /// The files are another node's of this cluster.
    #[error(
        "{} belongs to node {found:#x}, this is node {ours:#x}; point the node at its own data directory",
        segment_file_name(*segment)
    )]
    Node {
        /// The segment.
        segment: u32,
        /// In it.
        found: u64,
        /// This node's.
        ours: u64,
    },
    /// Written by a newer build.
    #[error(
        "{} at byte {offset} has format version {found}, this build reads up to {ours}; start the newer build",
        segment_file_name(*segment)
    )]
    Version {
        /// The segment.
        segment: u32,
        /// Where.
        offset: u32,
        /// In it.
        found: u16,
        /// This build's.
        ours: u16,
    },
    /// A file of this log under the name of another: swapped, or a copy.
    #[error(
        "{} holds segment {found}: files were swapped or copied; give it back its name, or remove it if {} is there \
         and good",
        segment_file_name(*segment), segment_file_name(*found)
    )]
    Misplaced {
        /// The segment that its name says.
        segment: u32,
        /// The one in it.
        found: u32,
    },
    /// A file between others is gone.
    #[error("{} is missing, later ones are there; bring it back, or replace this node", segment_file_name(*segment))]
    Missing {
        /// The segment.
        segment: u32,
    },
    /// Two files of one number.
    #[error("segment {segment} is there twice; remove the copy")]
    Twice {
        /// The segment.
        segment: u32,
    },
    /// Older segments were deleted, and no segment has a readable checkpoint.
    #[error(
        "no readable checkpoint from {} on, and what came before is deleted; replace this node, empty and under a new id",
        segment_file_name(*first)
    )]
    NoCheckpoint {
        /// The oldest segment there is.
        first: u32,
    },
    /// There are bytes, but not one readable block.
    #[error(
        "{} is not a write-ahead log, or damaged throughout; bring it back, or replace this node, empty and under a new id",
        segment_file_name(*segment)
    )]
    Unreadable {
        /// The segment.
        segment: u32,
    },
    /// Something durable is damaged, and the configuration says to refuse.
    #[error(
        "{} is damaged: {bytes} bytes from byte {offset}: {why}; replace this node, empty and under a new id",
        segment_file_name(*segment)
    )]
    Damaged {
        /// The segment.
        segment: u32,
        /// First byte.
        offset: u32,
        /// How many.
        bytes: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// A record read back is not what was written.
    #[error("{} is damaged at byte {offset}: {why}; have it repaired from a peer", segment_file_name(*segment))]
    Record {
        /// The segment.
        segment: u32,
        /// Of the record's header.
        offset: u32,
        /// What is wrong.
        why: &'static str,
    },
}

fn at(segment: Option<u32>, offset: u64) -> String {
    segment.map_or(String::new(), |n| format!(", {} at byte {offset}", segment_file_name(n)))
}
