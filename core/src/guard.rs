//! Which panics don't end the process? One thing is run behind a guard: applying a record, of which the node that can't is
//! to say which it was. Everywhere else a panic is the end, as who sets the panic hook sees to.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f`. What it leaves behind when it panics must not be looked at again, but to end.
///
/// # Errors
/// What the panic said.
pub fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    GUARDED.set(outer);
    result.map_err(|panic| said(&*panic).to_owned())
}

/// Whether a panic on this thread would be caught: for panic hooks.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it didn't say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_behind_the_guard_says_what_it_was_and_the_guard_is_gone_after_it() {
        assert_eq!(guarded(is_guarded), Ok(true));
        assert_eq!(guarded(|| -> u8 { panic!("at {}", 7) }), Err("at 7".into()));
        assert_eq!(guarded(|| -> u8 { panic!("plain") }), Err("plain".into()));
        assert!(!is_guarded());
        let nested = guarded(|| (guarded(|| -> u8 { panic!("inner") }), is_guarded()));
        assert_eq!(nested, Ok((Err("inner".into()), true)));
    }
}
