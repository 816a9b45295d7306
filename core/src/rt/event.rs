//! How does one task of an executor tell another that there is work? A flag with one waiter; setting it
//! never blocks, allocates or makes a syscall.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A binary event within one executor. Setting it twice before the wait is setting it once.
#[derive(Debug, Default)]
pub struct Event {
    set: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Event {
    /// Makes the present or next `wait` return.
    pub fn set(&self) {
        self.set.set(true);
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// Returns when set, and unsets. At most one task waits at a time.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.set.take() {
                return Poll::Ready(());
            }
            *self.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
