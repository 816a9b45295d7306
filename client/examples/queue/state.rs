//! A job queue, replicated: all there is to it.

use std::collections::BTreeMap;
use zoolog_client::replicated::rkyv::{Archive, Archived, Deserialize, Serialize};
use zoolog_client::replicated::{Image, StateMachine, unarchive};
use zoolog_core::Gsn;

/// Jobs that are not done, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Queue {
    jobs: BTreeMap<u64, Job>,
    /// The latest time that anybody has said.
    now_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Archive, Serialize, Deserialize)]
struct Job {
    work: String,
    /// Who has it, and until when.
    taken: Option<(String, u64)>,
}

/// What changes it.
#[derive(Clone, Debug, Archive, Serialize, Deserialize)]
pub enum Command {
    Add {
        work: String,
    },
    /// The first job that nobody has, for so long. `now_ms` is what the worker's clock shows.
    Take {
        worker: String,
        now_ms: u64,
        lease_ms: u64,
    },
    Done {
        worker: String,
        number: u64,
    },
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Added {
        number: u64,
    },
    /// Its number, and what to do.
    Taken(Option<(u64, String)>),
    /// Whether the job was the worker's.
    Done(bool),
}

impl Queue {
    pub fn len(&self) -> usize {
        self.jobs.len()
    }
}

impl StateMachine for Queue {
    type Command = Command;
    type Outcome = Told;

    fn apply(&mut self, gsn: Gsn, command: &Archived<Command>) -> Told {
        match command {
            Archived::<Command>::Add { work } => {
                self.jobs.insert(gsn.0, Job { work: work.to_string(), taken: None });
                Told::Added { number: gsn.0 }
            }
            Archived::<Command>::Take { worker, now_ms, lease_ms } => {
                self.now_ms = self.now_ms.max(now_ms.to_native());
                let until = self.now_ms.saturating_add(lease_ms.to_native());
                let is_free = |job: &Job| job.taken.as_ref().is_none_or(|(_, until)| *until <= self.now_ms);
                let free = self.jobs.iter_mut().find(|(_, job)| is_free(job));
                Told::Taken(free.map(|(number, job)| {
                    job.taken = Some((worker.to_string(), until));
                    (*number, job.work.clone())
                }))
            }
            Archived::<Command>::Done { worker, number } => {
                let number = number.to_native();
                let job = self.jobs.get(&number);
                let own = job.is_some_and(|j| j.taken.as_ref().is_some_and(|(w, _)| w == worker.as_str()));
                Told::Done(own && self.jobs.remove(&number).is_some())
            }
        }
    }

    fn snapshot(&self) -> Image {
        Image::archive(self)
    }

    fn restore(image: &[u8]) -> Result<Self, String> {
        unarchive(image)
    }
}
