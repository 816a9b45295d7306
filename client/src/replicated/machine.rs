//! What does somebody write who wants his own data structure replicated? A [`StateMachine`].

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Archived, Deserialize, Portable, Serialize};
use xxhash_rust::xxh3::Xxh3;
use zoolog_core::Gsn;

/// What can be a command: whatever derives rkyv's `Archive` and `Serialize`.
pub trait Command:
    Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, Error>>>
    + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>
{
}

impl<T> Command for T where
    T: Archive<Archived: Portable + for<'a> CheckBytes<HighValidator<'a, Error>>>
        + for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>
{
}

/// A data structure that is the same on every node, because every node applies the same commands in the same order.
///
/// [`Default`] is the state before the first command.
pub trait StateMachine: Default + 'static {
    /// What changes it. New commands are added behind the others, under a higher [`VERSION`](Self::VERSION).
    type Command: Command;
    /// What a command came to; told to whoever proposed it, and nowhere else.
    type Outcome;

    /// Which commands this build knows. A node that meets a command of a higher version stops, since it can't do what the
    /// others do: so bring the new build to all nodes first, and only then propose what is new. From 1.
    const VERSION: u16 = 1;

    /// Carries out a command. Must depend on nothing but the state and its arguments: no clock, no chance, no other thread,
    /// no iteration of a `HashMap`. What a command needs of these, its proposer puts into it.
    ///
    /// `gsn` is its position in the log: unique, and growing from command to command, though not by one. It serves well as a
    /// version, an id or a fencing token.
    ///
    /// # Panics
    /// It had better not: a panic here ends the node, and each that applies the command.
    fn apply(&mut self, gsn: Gsn, command: &Archived<Self::Command>) -> Self::Outcome;

    /// The state as bytes, from which [`restore`](Self::restore) makes an equal one. Equal states give equal bytes.
    fn snapshot(&self) -> Image;

    /// The state again, from all the bytes of an image. They were checked against damage; but another build may have
    /// written them.
    ///
    /// # Errors
    /// Text for a person: the bytes are of no state that this build knows.
    fn restore(image: &[u8]) -> Result<Self, String>;

    /// A hash of the state, equal on all nodes at equal positions; a snapshot is taken for good only if what it gives has the
    /// hash of what it was made from. The default goes through the bytes of a whole snapshot: who has a large state and
    /// asks often keeps one as it changes.
    fn state_hash(&self) -> u64 {
        self.snapshot().hash()
    }
}

/// A state as bytes, in pieces: asked for one after the other while further commands are applied.
///
/// A small state (up to some 100 MB) is best given whole: applying waits as long as it takes to write it to memory. For a
/// larger one give an iterator over a copy that is cheap to make, such as an `Arc` of it that `apply` copies on the next
/// change. Neither may hold up the log: the iterator is asked on the node's thread.
pub struct Image(Box<dyn Iterator<Item = Vec<u8>> + Send>);

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").finish_non_exhaustive()
    }
}

impl Image {
    /// All of it.
    pub fn whole(bytes: Vec<u8>) -> Self {
        Self::pieces(std::iter::once(bytes))
    }

    /// Piece by piece, of any length; where they are cut means nothing.
    pub fn pieces(pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        Self(Box::new(pieces))
    }

    /// Of a state that derives rkyv's `Archive` and `Serialize`; [`unarchive`] makes it again. Use ordered maps in it: a
    /// `HashMap` is written in another order each time.
    ///
    /// # Panics
    /// If rkyv can't write it: no type of the standard library is such.
    pub fn archive<T>(state: &T) -> Self
    where
        T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
    {
        Self::whole(rkyv::to_bytes::<Error>(state).expect("a state that can be written").into_vec())
    }

    /// XXH3 of its bytes.
    pub fn hash(self) -> u64 {
        let mut hash = Xxh3::new();
        self.for_each(|piece| hash.update(&piece));
        hash.digest()
    }
}

impl Iterator for Image {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.0.next()
    }
}

/// A state that [`Image::archive`] has written.
///
/// # Errors
/// The bytes are no such state.
pub fn unarchive<T>(image: &[u8]) -> Result<T, String>
where
    T: Archive<
        Archived: for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
    >,
{
    rkyv::from_bytes::<T, Error>(image).map_err(|e| format!("it is no state of this build: {e}"))
}
