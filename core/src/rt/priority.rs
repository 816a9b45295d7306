//! Whose work comes first, where there are fewer cores than work? That of threads whose clients wait; others say so of
//! themselves.

/// How nice a thread is that lets others go first: a tenth of the time of one that doesn't, where both want all there is, so that
/// it gets on still.
const NICE: libc::c_int = 10;

/// The calling thread, and those that it starts from now on, let others go first. There is no way back.
pub fn let_others_go_first() {
    // SAFETY: plain calls without memory of ours. On Linux they are about the calling thread alone.
    let done = unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, now.max(NICE))
    };
    if done != 0 {
        tracing::debug!("a thread could not be made nice: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> libc::c_int {
        // SAFETY: as above.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn a_thread_is_nice_with_those_that_it_starts_and_no_others() {
        let before = nice();
        let thread = std::thread::spawn(|| {
            let_others_go_first();
            (nice(), std::thread::spawn(nice).join().expect("it ends"))
        });
        let wanted = before.max(NICE);
        assert_eq!(thread.join().expect("it ends"), (wanted, wanted));
        assert_eq!(nice(), before);
    }
}
