//! How is a log in the simulator's world used from outside it?

use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use zoolog_client::{LogEvent, SharedLog};
use zoolog_core::{Input, Instant, Output};
use zoolog_sim::observe::Observation;
use zoolog_sim::process::{Process, uncommanded};

/// A log in the world, used from outside it.
pub struct Held<L>(pub Rc<RefCell<Option<L>>>, pub Rc<RefCell<VecDeque<LogEvent>>>);

impl<L> Clone for Held<L> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl<L> Default for Held<L> {
    fn default() -> Self {
        Self(Rc::default(), Rc::default())
    }
}

pub struct Client<L> {
    pub held: Held<L>,
    pub now: Instant,
}

impl<L> Client<L> {
    fn log<R>(&self, f: impl FnOnce(&mut L) -> R) -> R {
        f(self.held.0.borrow_mut().as_mut().expect("it lives"))
    }
}

impl<L: SharedLog> Process for Client<L> {
    fn handle(&mut self, now: Instant, input: Input<Infallible>) {
        self.now = now;
        self.log(|log| log.handle(now, uncommanded(input)));
    }

    fn poll_output(&mut self, now: Instant) -> Option<Output<Observation>> {
        self.now = now;
        loop {
            let output = self.log(|log| log.poll_output(now))?;
            match output.try_map(Err::<Observation, _>) {
                Ok(output) => return Some(output),
                Err(event) => self.held.1.borrow_mut().push_back(event),
            }
        }
    }

    /// Looks every millisecond whether it was used.
    fn next_deadline(&self) -> Option<(Instant, &'static str)> {
        let look = (self.now + Duration::from_millis(1), "use from outside");
        self.log(|log| log.next_deadline()).into_iter().chain([look]).min()
    }

    fn may_checkpoint(&self) -> bool {
        self.log(|log| log.may_checkpoint())
    }

    fn checkpoint(&self) -> Bytes {
        self.log(|log| log.checkpoint())
    }
}
