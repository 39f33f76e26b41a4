//! What instances share: data and queues. Those of one plugin share them, and those of several where they name the same
//! `vm_id`; nobody else sees them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use foldhash::fast::RandomState;

use crate::abi::Status;

/// What an entry costs beyond its bytes.
const ENTRY_COST: usize = 64;

/// Items that an instance may be told of later. It can take what there is when it is told of one.
const NOTICES: usize = 4096;

/// What the plugins of one scope share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    data: Mutex<Data>,
    queues: Mutex<Vec<Queue>>,
}

#[derive(Debug, Default)]
struct Data {
    values: HashMap<Box<[u8]>, (Bytes, u32), RandomState>,
    bytes: usize,
    /// The number of the last change.
    last: u32,
}

#[derive(Debug)]
struct Queue {
    name: Box<[u8]>,
    items: VecDeque<Bytes>,
    bytes: usize,
    /// Who wants to be told of items: the last of those that there still are.
    listeners: Vec<Arc<Notices>>,
}

impl Queue {
    fn listener(&mut self) -> Option<&Arc<Notices>> {
        self.listeners.retain(|listener| !listener.is_closed());
        self.listeners.last()
    }
}

/// Items of queues that an instance is still to be told of; by whatever thread they come.
#[derive(Debug, Default)]
pub struct Notices(Mutex<Pending>);

#[derive(Debug, Default)]
struct Pending {
    /// The queue of each item.
    queues: VecDeque<u32>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Notices {
    /// The queue of the next item; `None` when the instance is gone.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut pending = lock(&self.0);
        if pending.is_closed {
            return Poll::Ready(None);
        }
        if let Some(queue) = pending.queues.pop_front() {
            return Poll::Ready(Some(queue));
        }
        pending.waker = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn close(&self) {
        let waker = {
            let mut pending = lock(&self.0);
            pending.is_closed = true;
            pending.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn is_closed(&self) -> bool {
        lock(&self.0).is_closed
    }

    fn add(&self, queue: u32, items: usize) {
        let waker = {
            let mut pending = lock(&self.0);
            let room = NOTICES.saturating_sub(pending.queues.len());
            pending.queues.extend(std::iter::repeat_n(queue, items.min(room)));
            pending.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A panic while a lock is held leaves what it protects as whole as it was: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The value of a key and the number of its last change.
    pub(crate) fn value(&self, key: &[u8]) -> Result<(Bytes, u32), Status> {
        lock(&self.data).values.get(key).cloned().ok_or(Status::NotFound)
    }

    /// Sets a value. With a number other than 0, only if that is the one of the key's last change.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], change: u32, limit: usize) -> Result<(), Status> {
        let data = &mut *lock(&self.data);
        let before = data.values.get(key);
        if change != 0 && before.is_none_or(|(_, last)| *last != change) {
            return Err(Status::CasMismatch);
        }
        let freed = before.map_or(0, |(value, _)| key.len() + value.len() + ENTRY_COST);
        let taken = key.len() + value.len() + ENTRY_COST;
        if data.bytes - freed + taken > limit {
            return Err(Status::InternalFailure);
        }
        // 0 means that it does not matter.
        data.last = data.last.checked_add(1).unwrap_or(1);
        data.bytes = data.bytes - freed + taken;
        let new = (Bytes::copy_from_slice(value), data.last);
        match data.values.get_mut(key) {
            Some(before) => *before = new,
            None => drop(data.values.insert(key.into(), new)),
        }
        Ok(())
    }

    /// The number of a queue; it is made if there is none of this name. From now on it is this listener that is told of
    /// items, and at once of those that nobody was told of.
    pub(crate) fn register(&self, name: &[u8], limit: usize, listener: &Arc<Notices>) -> Result<u32, Status> {
        let mut queues = lock(&self.queues);
        let found = queues.iter().position(|queue| *queue.name == *name);
        let position = match found {
            Some(position) => position,
            None if queues.len() >= limit => return Err(Status::InternalFailure),
            None => {
                queues.push(Queue { name: name.into(), items: VecDeque::new(), bytes: 0, listeners: Vec::new() });
                queues.len() - 1
            }
        };
        let (number, queue) = (id(position)?, &mut queues[position]);
        if queue.listener().is_none() {
            listener.add(number, queue.items.len());
        }
        queue.listeners.retain(|one| !Arc::ptr_eq(one, listener));
        queue.listeners.push(Arc::clone(listener));
        Ok(number)
    }

    /// The number of a queue that there is.
    pub(crate) fn resolve(&self, name: &[u8]) -> Result<u32, Status> {
        let queues = lock(&self.queues);
        id(queues.iter().position(|queue| *queue.name == *name).ok_or(Status::NotFound)?)
    }

    pub(crate) fn enqueue(&self, number: u32, item: &[u8], limit: usize) -> Result<(), Status> {
        let mut queues = lock(&self.queues);
        let queue = find(&mut queues, number)?;
        if queue.bytes + item.len() + ENTRY_COST > limit {
            return Err(Status::InternalFailure);
        }
        queue.bytes += item.len() + ENTRY_COST;
        queue.items.push_back(Bytes::copy_from_slice(item));
        if let Some(listener) = queue.listener() {
            listener.add(number, 1);
        }
        Ok(())
    }

    pub(crate) fn dequeue(&self, number: u32) -> Result<Bytes, Status> {
        let mut queues = lock(&self.queues);
        let queue = find(&mut queues, number)?;
        let item = queue.items.pop_front().ok_or(Status::Empty)?;
        queue.bytes -= item.len() + ENTRY_COST;
        Ok(item)
    }
}

/// Queues are numbered from 1.
fn id(position: usize) -> Result<u32, Status> {
    u32::try_from(position + 1).map_err(|_| Status::InternalFailure)
}

fn find(queues: &mut [Queue], number: u32) -> Result<&mut Queue, Status> {
    let position = (number as usize).checked_sub(1).ok_or(Status::NotFound)?;
    queues.get_mut(position).ok_or(Status::NotFound)
}

/// All that is shared on this node, by `vm_id`.
#[derive(Debug, Default)]
pub struct Scopes(Mutex<HashMap<Box<str>, Arc<Shared>>>);

impl Scopes {
    /// What the plugins with this id share; alive as long as one of them is.
    pub(crate) fn scope(&self, vm_id: &str) -> Arc<Shared> {
        let mut scopes = lock(&self.0);
        scopes.retain(|id, shared| Arc::strong_count(shared) > 1 || **id == *vm_id);
        Arc::clone(scopes.entry(vm_id.into()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: usize = 1 << 20;

    #[test]
    fn a_change_that_nobody_expected_is_refused() {
        let shared = Shared::default();
        assert_eq!(shared.value(b"a"), Err(Status::NotFound));
        assert_eq!(shared.set(b"a", b"1", 7, PLENTY), Err(Status::CasMismatch));
        shared.set(b"a", b"1", 0, PLENTY).unwrap();
        let (value, first) = shared.value(b"a").unwrap();
        assert_eq!(value, "1");
        shared.set(b"a", b"2", first, PLENTY).unwrap();
        assert_eq!(shared.set(b"a", b"3", first, PLENTY), Err(Status::CasMismatch));
        let (value, second) = shared.value(b"a").unwrap();
        assert!(value == "2" && second != first && second != 0);
    }

    #[test]
    fn data_is_bounded_by_what_it_takes_now() {
        let (shared, limit) = (Shared::default(), ENTRY_COST + 11);
        for value in [&b"123456789"[..], b"1", b"0123456789"] {
            shared.set(b"a", value, 0, limit).unwrap();
        }
        assert_eq!(shared.set(b"a", b"0123456789a", 0, limit), Err(Status::InternalFailure));
        assert_eq!(shared.set(b"b", b"", 0, limit), Err(Status::InternalFailure));
        assert_eq!(shared.value(b"a").unwrap().0, "0123456789");
    }

    #[test]
    fn queues_keep_order_and_bounds() {
        let shared = Shared::default();
        let listener = Arc::default();
        let queue = shared.register(b"q", 1, &listener).unwrap();
        assert_eq!((shared.register(b"q", 1, &listener), shared.resolve(b"q")), (Ok(queue), Ok(queue)));
        assert_eq!(shared.register(b"other", 1, &listener), Err(Status::InternalFailure));
        assert_eq!(shared.resolve(b"other"), Err(Status::NotFound));
        assert_eq!((shared.enqueue(0, b"", PLENTY), shared.dequeue(2)), (Err(Status::NotFound), Err(Status::NotFound)));
        let limit = 2 * (ENTRY_COST + 1);
        assert_eq!(
            ["1", "2", "3"].map(|item| shared.enqueue(queue, item.as_bytes(), limit).is_ok()),
            [true, true, false]
        );
        assert_eq!((shared.dequeue(queue).unwrap(), shared.dequeue(queue).unwrap()), ("1".into(), "2".into()));
        assert_eq!(shared.dequeue(queue), Err(Status::Empty));
    }

    #[test]
    fn the_last_that_listens_is_told_of_items() {
        let shared = Shared::default();
        let told = |notices: &Notices| {
            let mut context = Context::from_waker(Waker::noop());
            std::iter::from_fn(|| match notices.poll_next(&mut context) {
                Poll::Ready(told) => told,
                Poll::Pending => None,
            })
            .count()
        };
        let [first, second, third] = [const { || Arc::new(Notices::default()) }; 3].map(|new| new());
        let queue = shared.register(b"q", 1, &first).unwrap();
        let put = || shared.enqueue(queue, b"item", PLENTY).unwrap();
        put();
        shared.register(b"q", 1, &second).unwrap();
        put();
        put();
        assert_eq!((told(&first), told(&second)), (1, 2));
        // It is gone: the one before it is the last now.
        second.close();
        put();
        assert_eq!((told(&first), told(&second)), (1, 0));
        // Nobody listens; whoever comes next is told of what waits.
        first.close();
        put();
        shared.register(b"q", 1, &third).unwrap();
        assert_eq!(told(&third), 5);
    }

    #[test]
    fn a_scope_lives_as_long_as_a_plugin_of_it() {
        let scopes = Scopes::default();
        let one = scopes.scope("a");
        one.set(b"k", b"v", 0, PLENTY).unwrap();
        assert!(scopes.scope("a").value(b"k").is_ok() && scopes.scope("b").value(b"k").is_err());
        drop(one);
        scopes.scope("b");
        assert!(scopes.scope("a").value(b"k").is_err());
    }
}
