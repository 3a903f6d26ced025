//! What is said of a panic: where it was, and never with what. A message that is made as it happens may hold anything; the
//! slice of a text that fails, for one, quotes the text.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::Write as _,
    panic::{self, PanicHookInfo},
    sync::{Mutex, PoisonError},
};

/// What a thread could not tell itself.
static UNTOLD: Mutex<String> = Mutex::new(String::new());

/// From now on panics of every thread are told on standard error, so.
pub fn install() {
    panic::set_hook(Box::new(hook(|text| {
        // Media threads may not write.
        if std::io::stderr().write_all(text.as_bytes()).is_err() {
            UNTOLD.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        }
    })));
}

/// What threads that may not write have to tell of their panics.
pub fn take_untold() -> String {
    std::mem::take(&mut *UNTOLD.lock().unwrap_or_else(PoisonError::into_inner))
}

fn hook(tell: impl Fn(&str) + Send + Sync + 'static) -> impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static {
    move |info| tell(&text(info))
}

fn text(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    // Written in the source as it is.
    let message = info.payload().downcast_ref::<&'static str>().copied();
    let message = message.unwrap_or("its message may hold secrets and is not shown");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("{backtrace}\n"),
        _ => String::new(),
    };
    format!("A bug: the thread `{name}` panicked at {place}: {message}\n{backtrace}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Other tests may panic on purpose meanwhile: their texts are told here, too.
    #[test]
    fn a_panic_is_told_with_its_place_and_without_what_it_quotes() {
        let told = Arc::new(Mutex::new(String::new()));
        let telling = Arc::clone(&told);
        let before = panic::take_hook();
        panic::set_hook(Box::new(hook(move |text| telling.lock().unwrap().push_str(text))));
        let secret = std::hint::black_box("pin-canary-90514736\u{20ac}".to_owned());
        for cut in [secret.len() - 1, 1_000] {
            let secret = secret.clone();
            let ended = std::thread::Builder::new().name("leaky".to_owned()).spawn(move || secret[..cut].len());
            assert!(ended.unwrap().join().is_err());
        }
        std::thread::spawn(|| panic!("a plain word")).join().unwrap_err();
        panic::set_hook(before);
        let told = told.lock().unwrap();
        assert!(!told.contains("canary"), "{told}");
        assert!(told.contains("the thread `leaky` panicked at src/shell/panics.rs:"), "{told}");
        assert!(told.contains("a plain word"), "{told}");
    }
}
