//! Can this machine run us? Checked before anything starts, and said with the cure.

/// Locked memory without which older kernels make no rings for a few threads, in bytes.
const MEMLOCK_MIN: u64 = 512 << 10;
/// What most systems grant.
const MEMLOCK_WANTED: u64 = 8 << 20;
const FILES_MIN: u64 = 256;
const FILES_WANTED: u64 = 65_536;
/// Taken where the hard limit allows it: connections beyond [`FILES_WANTED`] can be configured.
const FILES_MOST: u64 = 1 << 20;

/// Raises limits as far as allowed and tries io_uring.
///
/// # Errors
/// What is missing, and how to get it, as text for a person.
pub fn check() -> Result<(), String> {
    let memlock = raise(libc::RLIMIT_MEMLOCK, MEMLOCK_WANTED, MEMLOCK_WANTED);
    if memlock < MEMLOCK_MIN {
        return Err(format!(
            "only {} KiB of memory may be locked, io_uring needs up to {} KiB: raise it with \
             `ulimit -l 8192`, LimitMEMLOCK=infinity in the systemd unit, or --ulimit memlock=-1 for a container",
            memlock >> 10,
            MEMLOCK_MIN >> 10
        ));
    }
    let files = raise(libc::RLIMIT_NOFILE, FILES_WANTED, FILES_MOST);
    if files < FILES_MIN {
        return Err(format!(
            "only {files} files may be open, at least {FILES_MIN} are needed: raise it with `ulimit -n 65536` \
             or LimitNOFILE=65536 in the systemd unit"
        ));
    }
    io_uring()
}

/// Raises a soft limit to the hard one, up to `most`; to `wanted` where that may be raised, too. Gives what holds now.
fn raise(resource: libc::__rlimit_resource_t, wanted: u64, most: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain syscalls on a local struct.
    unsafe {
        if libc::getrlimit(resource, &mut limit) != 0 {
            return u64::MAX; // can't be asked: let the real call tell
        }
        let hard = limit.rlim_max;
        let wanted = wanted.max(hard.min(most));
        if limit.rlim_cur < wanted {
            let before = limit.rlim_cur;
            // Root may raise the hard limit too; others get as far as it goes.
            limit.rlim_cur = wanted;
            limit.rlim_max = hard.max(wanted);
            if libc::setrlimit(resource, &limit) != 0 {
                limit.rlim_cur = wanted.min(hard);
                limit.rlim_max = hard;
                if libc::setrlimit(resource, &limit) != 0 {
                    limit.rlim_cur = before;
                }
            }
        }
    }
    limit.rlim_cur
}

fn io_uring() -> Result<(), String> {
    let mut params = [0u8; 120]; // struct io_uring_params
    // SAFETY: the kernel fills at most the 120 bytes of the struct.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8u32, params.as_mut_ptr()) };
    if fd >= 0 {
        // SAFETY: a descriptor this function just got.
        unsafe { libc::close(fd as i32) };
        return Ok(());
    }
    let e = std::io::Error::last_os_error();
    let cure = match e.raw_os_error() {
        Some(libc::EPERM) => {
            let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            match disabled.trim() {
                "1" | "2" => format!(
                    "kernel.io_uring_disabled is {}: set it with `sysctl kernel.io_uring_disabled=0`",
                    disabled.trim()
                ),
                _ => "a seccomp profile blocks it: allow io_uring_setup, io_uring_enter and io_uring_register \
                      (for Docker: --security-opt seccomp=unconfined, or a profile with these three)"
                    .to_string(),
            }
        }
        Some(libc::ENOSYS) => {
            "the kernel is older than 5.11, or a sandbox filters it: run on Linux 5.11 or newer, outside that sandbox"
                .to_string()
        }
        Some(libc::ENOMEM) => "too little memory may be locked: raise `ulimit -l`".to_string(),
        _ => "unexpected; please report it with your kernel version".to_string(),
    };
    Err(format!("io_uring can't be used ({e}): {cure}"))
}
