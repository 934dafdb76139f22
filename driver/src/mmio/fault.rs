//! SIGBUS on a mapped BAR.
//!
//! The kernel has no page to give for a BAR that is gone: the function was unplugged, unbound, sent to D3, or its memory
//! decoding was switched off. The access then raises SIGBUS, which ends the process unless somebody handles it. With
//! [`install`] the page is replaced by memory that nobody reads, the access goes on, and the device's next look finds
//! [`Window::is_lost`](super::Window::is_lost).

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use auk_asic::PAGE;
use nix::errno::Errno;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, raise, sigaction,
};

/// Ranges a chunk of the table has room for.
const CHUNK: usize = 128;

/// A mapped range, as the handler finds it.
#[derive(Debug, Default)]
pub(super) struct Range {
    /// 0 while the entry is free; [`TAKEN`] while it is being filled.
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

/// No mapping begins here: page 0 is never mapped for a process (`vm.mmap_min_addr`), and this is no page.
const TAKEN: usize = 1;

struct Chunk {
    ranges: [Range; CHUNK],
    next: Option<&'static Chunk>,
}

/// The newest chunk. Chunks are never freed, because a handler may be looking at any of them.
static NEWEST: AtomicPtr<Chunk> = AtomicPtr::new(null_mut());
static GROWING: Mutex<()> = Mutex::new(());
/// What handled SIGBUS before.
static PREVIOUS: OnceLock<SigAction> = OnceLock::new();

impl Range {
    /// Registers the mapping of `length` bytes at `start`.
    pub(super) fn register(start: usize, length: usize) -> &'static Self {
        let range = free_range();
        range.end.store(start + length, Ordering::Relaxed);
        range.lost.store(false, Ordering::Relaxed);
        range.start.store(start, Ordering::Release);
        range
    }

    /// Forgets it; to be called before it is unmapped, lest the handler replace what is mapped there next.
    pub(super) fn unregister(&self) {
        self.start.store(0, Ordering::Release);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    fn claim(&self) -> bool {
        self.start
            .compare_exchange(0, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether it is the range of `address`; an entry that changes meanwhile is some other window's.
    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire);
        start > TAKEN
            && (start..end).contains(&address)
            && self.start.load(Ordering::Relaxed) == start
    }
}

fn chunks() -> impl Iterator<Item = &'static Chunk> {
    // SAFETY: the pointer is null or comes from a `Box` that was leaked after it was filled.
    let newest = unsafe { NEWEST.load(Ordering::Acquire).as_ref() };
    std::iter::successors(newest, |chunk| chunk.next)
}

fn free_range() -> &'static Range {
    let free = || {
        chunks()
            .flat_map(|chunk| &chunk.ranges)
            .find(|range| range.claim())
    };
    if let Some(range) = free() {
        return range;
    }
    let _growing = GROWING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(range) = free() {
        return range;
    }
    let chunk: &'static Chunk = Box::leak(Box::new(Chunk {
        ranges: std::array::from_fn(|_| Range::default()),
        next: chunks().next(),
    }));
    let first = &chunk.ranges[0];
    first.start.store(TAKEN, Ordering::Relaxed);
    NEWEST.store(std::ptr::from_ref(chunk).cast_mut(), Ordering::Release);
    first
}

/// Has this process survive accesses to mapped BARs that are gone: the device's calls end in
/// [`Error::MappingLost`](crate::Error::MappingLost) instead.
///
/// A signal handler belongs to the whole process, so it is the program's choice, not the library's. Any other SIGBUS goes
/// to whatever handled the signal before, or ends the process as it would have. A program with a handler of its own
/// that wants the last word installs it before this. Calling it again changes nothing.
///
/// # Errors
/// What the kernel said.
pub fn install() -> std::io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _installing = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    let ours = SigAction::new(
        SigHandler::SigAction(handle),
        SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    let mut signal = SigSet::empty();
    signal.add(Signal::SIGBUS);
    // In this thread no handler waits for what this thread is about to store.
    let mask = signal.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: `handle` does only what a signal handler may: atomics, `mmap`, `sigaction`, `raise`.
    let previous = unsafe { sigaction(Signal::SIGBUS, &ours) };
    if let Ok(previous) = &previous {
        PREVIOUS.get_or_init(|| *previous);
    }
    mask.thread_set_mask()?;
    previous?;
    Ok(())
}

fn default_action() -> SigAction {
    SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty())
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel gives a valid pointer to a handler with SA_SIGINFO.
    let info_of_fault = unsafe { &*info };
    // A signal that was sent says nothing about an address (`si_code` <= 0, sigaction(2)).
    let address = if info_of_fault.si_code > 0 {
        // SAFETY: for a SIGBUS that a fault raised, the kernel fills this member in.
        unsafe { info_of_fault.si_addr() as usize }
    } else {
        0
    };
    if !replace(address) {
        chain(signal, info, context);
    }
    Errno::set_raw(errno);
}

/// Puts memory where the lost page is; false when the address is in no window.
fn replace(address: usize) -> bool {
    let Some(range) = chunks()
        .flat_map(|chunk| &chunk.ranges)
        .find(|range| range.holds(address))
    else {
        return false;
    };
    range.lost.store(true, Ordering::Relaxed);
    let page = address & !(PAGE - 1);
    // SAFETY: the page lies in a window, which is made of pages, and stays mapped until the window is dropped.
    let mapped = unsafe {
        libc::mmap(
            page as *mut c_void,
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn chain(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // Another thread is between installing this handler and storing what was there.
    let previous = loop {
        match PREVIOUS.get() {
            Some(previous) => break previous.handler(),
            None => std::hint::spin_loop(),
        }
    };
    match previous {
        SigHandler::SigAction(handler) => handler(signal, info, context),
        SigHandler::Handler(handler) => handler(signal),
        // The kernel lets nobody ignore a fault: the instruction would raise it for ever.
        // SAFETY: `si_code` is in every `siginfo_t`.
        SigHandler::SigIgn if unsafe { (*info).si_code } <= 0 => {}
        _ => {
            // SAFETY: the default action refers to nothing.
            let _ = unsafe { sigaction(Signal::SIGBUS, &default_action()) };
            // Blocked while this handler runs, so it arrives when it returns.
            let _ = raise(Signal::SIGBUS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};
    use std::sync::atomic::AtomicU32;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::super::{Doorbell, RegisterError, Window};
    use super::*;

    /// A window on a page that is gone, as a BAR is after unplug.
    fn gone() -> Window {
        let fd = memfd_create("bar", MFdFlags::MFD_CLOEXEC).unwrap();
        let file = File::from(fd);
        file.set_len(PAGE as u64).unwrap();
        let size = std::num::NonZeroUsize::new(PAGE).unwrap();
        let window = Window::over(&file, 0, size).unwrap();
        file.set_len(0).unwrap();
        window
    }

    /// Runs the test `name` of this module in a process of its own, where it finds itself to be the child.
    fn in_child(name: &str, work: impl FnOnce()) -> Option<ExitStatus> {
        const CHILD: &str = "AUK_TEST_SIGBUS_CHILD";
        if std::env::var_os(CHILD).is_some() {
            work();
            return None;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("mmio::fault::tests::{name}")])
            .env(CHILD, "1")
            .output()
            .unwrap();
        Some(output.status)
    }

    #[test]
    fn a_store_to_a_bar_that_is_gone_goes_nowhere_and_is_told() {
        let status = in_child(
            "a_store_to_a_bar_that_is_gone_goes_nowhere_and_is_told",
            || {
                install().unwrap();
                install().unwrap();
                let (lost, kept) = (Doorbell::new(gone()), Doorbell::new(gone()));
                lost.ring(1);
                lost.ring(2);
                assert!(lost.is_lost());
                assert!(!kept.is_lost());
            },
        );
        assert!(status.is_none_or(|status| status.success()), "{status:?}");
    }

    #[test]
    fn a_register_of_a_bar_that_is_gone_is_an_error() {
        let status = in_child("a_register_of_a_bar_that_is_gone_is_an_error", || {
            install().unwrap();
            let window = gone();
            let lost = RegisterError::Lost { offset: 8 };
            assert_eq!(window.read_u32(8), Err(lost));
            assert_eq!(window.write_u32(8, 1), Err(lost));
        });
        assert!(status.is_none_or(|status| status.success()), "{status:?}");
    }

    #[test]
    fn without_the_handler_the_process_ends_by_sigbus() {
        let status = in_child("without_the_handler_the_process_ends_by_sigbus", || {
            Doorbell::new(gone()).ring(1);
        });
        let signal = status.map(|status| status.signal());
        assert!(signal.is_none_or(|signal| signal == Some(libc::SIGBUS)));
    }

    #[test]
    fn a_fault_elsewhere_still_ends_the_process() {
        let status = in_child("a_fault_elsewhere_still_ends_the_process", || {
            install().unwrap();
            let window = gone();
            window.forgotten();
            Doorbell::new(window).ring(1);
        });
        let signal = status.map(|status| status.signal());
        assert!(signal.is_none_or(|signal| signal == Some(libc::SIGBUS)));
    }

    #[test]
    fn a_former_handler_gets_what_is_not_ours() {
        static SEEN: AtomicU32 = AtomicU32::new(0);
        extern "C" fn former(_: c_int) {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }
        let status = in_child("a_former_handler_gets_what_is_not_ours", || {
            let action = SigAction::new(
                SigHandler::Handler(former),
                SaFlags::empty(),
                SigSet::empty(),
            );
            // SAFETY: `former` touches an atomic alone.
            unsafe { sigaction(Signal::SIGBUS, &action) }.unwrap();
            install().unwrap();
            Doorbell::new(gone()).ring(1);
            assert_eq!(SEEN.load(Ordering::Relaxed), 0);
            raise(Signal::SIGBUS).unwrap();
            assert_eq!(SEEN.load(Ordering::Relaxed), 1);
        });
        assert!(status.is_none_or(|status| status.success()), "{status:?}");
    }

    #[test]
    fn more_windows_than_a_chunk_holds_are_all_known() {
        let ranges: Vec<_> = (1..=3 * CHUNK)
            .map(|page| Range::register(page << 40, 1))
            .collect();
        for (page, range) in (1..=3 * CHUNK).zip(&ranges) {
            let found = chunks()
                .flat_map(|chunk| &chunk.ranges)
                .find(|range| range.holds(page << 40));
            assert!(found.is_some_and(|found| std::ptr::eq(found, *range)));
        }
        for range in ranges {
            range.unregister();
        }
    }
}
