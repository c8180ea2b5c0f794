//! Work on many items, shared out among threads.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// The results of `work` on each of `items`, in their order, from at most `threads` threads, the caller's among them.
pub(crate) fn map<T: Send, R: Send>(
    threads: usize,
    items: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let Ok(results) = try_map(threads, items, |item| Ok::<R, Infallible>(work(item)));
    results
}

/// The results of `work` on each of `items`, in their order, from at most `threads` threads, the caller's among them. Each
/// takes the next item when it is done with one.
///
/// # Errors
/// That of the first item whose work fails; once one has, no further item is begun.
pub(crate) fn try_map<T: Send, R: Send, E: Send>(
    threads: usize,
    items: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = threads.min(items.len());
    let queue = Mutex::new(Some(items.enumerate()));
    let results = Mutex::new(Vec::new());
    let one = || {
        loop {
            let next = held(&queue).as_mut().and_then(Iterator::next);
            let Some((index, item)) = next else {
                return;
            };
            let result = work(item);
            if result.is_err() {
                held(&queue).take();
            }
            held(&results).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(one);
        }
        one();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A thread that panics ends the scope, so nothing that it left is used.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_keep_the_order_of_their_items() {
        for threads in [0, 1, 3, 64] {
            let doubled = map(threads, 0..37, |item| item * 2);
            assert_eq!(doubled, (0..37).map(|item| item * 2).collect::<Vec<i32>>());
            assert!(map(threads, 0..0, |item: i32| item).is_empty());
        }
    }

    #[test]
    fn the_first_error_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let found = try_map(2, 0..1000, |item| {
            begun.fetch_add(1, Ordering::Relaxed);
            if item == 3 { Err(item) } else { Ok(item) }
        });
        assert_eq!(found, Err(3));
        let alone = AtomicUsize::new(0);
        let found: Result<Vec<i32>, i32> = try_map(1, 0..1000, |item| {
            alone.fetch_add(1, Ordering::Relaxed);
            if item == 3 { Err(item) } else { Ok(item) }
        });
        assert_eq!((found, alone.into_inner()), (Err(3), 4));
        assert!(begun.into_inner() >= 4);
    }
}
