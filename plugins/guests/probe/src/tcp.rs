//! Connections. Callbacks are `new-connection`, `downstream-data`, `upstream-data`, `downstream-close`, `upstream-close` and
//! `log`. A line of data may say `end` next: then it is for the last. What can be done:
//!
//! - `upper`, `append TEXT`, `replace TEXT`: with the data;
//! - `pause`, and `go`, which takes it back; `until TEXT`: pauses until the data contain this or end;
//! - `call UPSTREAM`: asks a service, and goes on downstream, or closes the connection where the answer is no 200;
//! - `close`, `panic`, `loop`;
//! - `count METRIC`; `peer METRIC`: adds who closed it to the metric; `property PATH METRIC`: counts in `METRIC.VALUE`.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, StreamContext};
use proxy_wasm::types::{Action, PeerType};

use crate::{Line, count, shown, spin};

pub(crate) struct Connection {
    script: Rc<Vec<Line>>,
}

/// What a callback is about.
#[derive(Default)]
struct Of {
    is_upstream: bool,
    size: usize,
    is_end: bool,
    peer: Option<PeerType>,
}

impl Connection {
    pub(crate) fn new(script: &Rc<Vec<Line>>) -> Self {
        Self { script: Rc::clone(script) }
    }

    fn run(&self, callback: &str, of: &Of) -> Action {
        let mut action = Action::Continue;
        let script = Rc::clone(&self.script);
        for (_, _, words) in script.iter().filter(|(of_line, end, _)| of_line == callback && (!end || of.is_end)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["upper"] => self.set(of, 0, usize::MAX >> 1, &self.data(of).to_ascii_uppercase()),
                ["append", text] => self.set(of, of.size, 0, text.as_bytes()),
                ["replace", text] => self.set(of, 0, usize::MAX >> 1, text.as_bytes()),
                ["pause"] => action = Action::Pause,
                ["go"] => action = Action::Continue,
                ["until", text] => {
                    let is_there = self.data(of).windows(text.len()).any(|part| part == text.as_bytes());
                    action = if is_there || of.is_end { Action::Continue } else { Action::Pause };
                }
                ["call", upstream] => {
                    let headers = vec![(":method", "GET"), (":path", "/"), (":authority", "probe")];
                    self.dispatch_http_call(upstream, headers, None, vec![], Duration::from_millis(300)).unwrap();
                    action = Action::Pause;
                }
                ["close"] => self.close(of.is_upstream),
                ["panic"] => panic!("as the configuration says"),
                ["loop"] => spin(),
                ["count", metric] => count(metric),
                ["peer", metric] => count(&format!("{metric}.{:?}", of.peer)),
                ["property", path, metric] => {
                    let value = self.get_property(path.split('.').collect()).map(shown);
                    count(&format!("{metric}.{}", value.unwrap_or_default()));
                }
                _ => panic!("the configuration is wrong: {words:?}"),
            }
        }
        action
    }

    fn data(&self, of: &Of) -> Vec<u8> {
        let data =
            if of.is_upstream { self.get_upstream_data(0, of.size) } else { self.get_downstream_data(0, of.size) };
        data.unwrap_or_default()
    }

    fn set(&self, of: &Of, start: usize, size: usize, value: &[u8]) {
        if of.is_upstream {
            self.set_upstream_data(start, size, value);
        } else {
            self.set_downstream_data(start, size, value);
        }
    }

    fn close(&self, is_upstream: bool) {
        if is_upstream {
            self.close_upstream();
        } else {
            self.close_downstream();
        }
    }
}

impl Context for Connection {
    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        if self.get_http_call_response_header(":status").as_deref() == Some("200") {
            self.resume_downstream();
        } else {
            self.close_downstream();
        }
    }
}

impl StreamContext for Connection {
    fn on_new_connection(&mut self) -> Action {
        self.run("new-connection", &Of::default())
    }

    fn on_downstream_data(&mut self, size: usize, is_end: bool) -> Action {
        self.run("downstream-data", &Of { size, is_end, ..Of::default() })
    }

    fn on_downstream_close(&mut self, peer: PeerType) {
        self.run("downstream-close", &Of { peer: Some(peer), ..Of::default() });
    }

    fn on_upstream_data(&mut self, size: usize, is_end: bool) -> Action {
        self.run("upstream-data", &Of { is_upstream: true, size, is_end, ..Of::default() })
    }

    fn on_upstream_close(&mut self, peer: PeerType) {
        self.run("upstream-close", &Of { peer: Some(peer), ..Of::default() });
    }

    fn on_log(&mut self) {
        self.run("log", &Of::default());
    }
}
