//! Was the command asked to end?

use crate::exit::{Code, Failure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first SIGINT or SIGTERM ends it in order; the second at once.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// If signals can't be had.
    pub fn install() -> Result<Self, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let code = Code::Interrupted as i32;
            // In this order: the second signal finds the flag that the first one set.
            signal_hook::flag::register_conditional_shutdown(signal, code, flag.clone())
                .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
                .map_err(|e| format!("can't listen to signals: {e}"))?;
        }
        Ok(Self(flag))
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the command if a signal came.
    ///
    /// # Errors
    /// If so; there is nothing to say about it.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_set() { Err(Failure::silent(Code::Interrupted)) } else { Ok(()) }
    }
}
