use std::io::Read as _;
use std::os::unix::net::UnixListener as BlockingListener;

use super::*;

/// Plays the process that runs, as far as `play` goes, while another asks.
fn with_running<T: Send + 'static>(
    new: impl FnOnce(&Path) -> T + Send + 'static,
    old: impl AsyncFnOnce(&Door, BorrowedFd<'_>),
) -> T {
    // A state folder whose name alone is longer than an address of a socket may be.
    let parent = tempfile::tempdir().unwrap();
    let state = parent.path().join("x".repeat(150));
    std::fs::create_dir(&state).unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let door = Door::open(&state).unwrap();
        let path = state.clone();
        let new = tokio::task::spawn_blocking(move || new(&path));
        old(&door, socket.as_fd()).await;
        new.await.unwrap()
    })
}

#[test]
fn everything_changes_hands() {
    let new = |state: &Path| {
        let mut lent = Lent::ask(state).unwrap().unwrap();
        assert!(lent.admin("127.0.0.1:2").is_none(), "another address needs another socket");
        let socket = std::net::TcpListener::from(lent.admin("127.0.0.1:1").unwrap());
        lent.ready().unwrap();
        socket.local_addr().unwrap()
    };
    let mut expected = None;
    let got = with_running(new, async |door, socket| {
        expected = Some(rustix::net::getsockname(socket).unwrap());
        let mut asked = door.asked().await.unwrap();
        asked.lend("127.0.0.1:1", socket).await.unwrap();
        asked.ready().await.unwrap();
        asked.farewell().await.unwrap();
    });
    assert_eq!(Some(got), expected.map(|address| address.try_into().unwrap()));
}

#[test]
fn who_gives_up_gives_back() {
    let new = |state: &Path| drop(Lent::ask(state).unwrap().unwrap());
    with_running(new, async |door, socket| {
        let mut asked = door.asked().await.unwrap();
        asked.lend("127.0.0.1:1", socket).await.unwrap();
        assert_eq!(asked.ready().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn a_refusal_says_why() {
    let new = |state: &Path| Lent::ask(state).unwrap_err().to_string();
    let why = with_running(new, async |door, _| door.asked().await.unwrap().refuse("not now").await);
    assert_eq!(why, "the process that runs refuses: not now");
}

#[test]
fn who_is_not_understood_is_refused_and_the_next_is_heard() {
    let new = |state: &Path| {
        let refusals = [&b"{\"takeOver\":99}\n"[..], b"garbage\n", b"\"ready\"\n"].map(|words| {
            let (_folder, path) = socket_path(state).unwrap();
            let mut stream = Blocking::connect(path).unwrap();
            stream.write_all(words).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        drop(Lent::ask(state));
        refusals
    };
    let refusals = with_running(new, async |door, _| door.asked().await.unwrap().refuse("seen").await);
    assert!(refusals[0].contains("version 1 of this protocol, not 99"), "{refusals:?}");
    assert!(refusals.iter().all(|answer| answer.starts_with("{\"refused\":")), "{refusals:?}");
}

#[test]
fn a_door_leaves_no_file_unless_it_is_given_up() {
    let state = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let file = state.path().join(FILE);
    assert!(Lent::ask(state.path()).unwrap().is_none(), "nobody runs");
    // What a killed process left is no hindrance, and is nobody.
    drop(BlockingListener::bind(&file).unwrap());
    assert!(Lent::ask(state.path()).unwrap().is_none());
    let door = Door::open(state.path()).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    drop(door);
    assert!(!file.exists());
    Door::open(state.path()).unwrap().give_up();
    assert!(file.exists());
}
