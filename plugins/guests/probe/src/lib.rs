//! Does what its configuration says: a line for each thing, which begins with the callback that it is for.
//!
//! With a line `tcp` it is a plugin for connections that are none of HTTP: see `tcp.rs`. Otherwise callbacks are `request-headers`, `request-body`, `request-trailers`, `response-headers`, `response-body`,
//! `response-trailers`, `tick` and `log`. A line of a body may say `end` next: then it is for the last piece. What can be
//! done:
//!
//! - `set NAME VALUE`, `add NAME VALUE`, `remove NAME`: with the headers or trailers of the callback;
//! - `property PATH as NAME`: sets a header to a property, whose path is written with dots;
//! - `property PATH into METRIC`: sets a metric to a property that is a number;
//! - `put PATH VALUE`: sets a property;
//! - `body TEXT`, `append TEXT`, `upper`: replaces, lengthens or shouts what there is of the body;
//! - `size NAME`: sets a property of that name to the size of the body that the callback was told;
//! - `reply STATUS TEXT`, `reset`, `pause`, and `go`, which takes a pause of the same callback back;
//! - `panic`, `panic-at HEADER` and `loop-at HEADER` (where the request has it), `share-and-panic KEY` (every other time), `loop`, `grow MIB`;
//! - `log TEXT`; `count METRIC`;
//! - `call UPSTREAM PATH`: asks a service, waits for what it says, and sets the header `x-call` to it;
//! - `call-with-trailers UPSTREAM NAME VALUE`: the same, with a body and a trailer;
//! - `grpc UPSTREAM TEXT`: calls `probe.Echo/Say` and sets the header `x-grpc` to what comes of it;
//! - `grpc-stream UPSTREAM TEXT`: opens `probe.Echo/Chat`, sends the text twice, and sets `x-grpc` to all that comes back;
//! - `grpc-cancel UPSTREAM`: opens a stream, gives it up, and says in `x-grpc` what it can still do with it;
//! - `foreign NAME ARGUMENTS`: calls a function of the host's and sets the header `x-foreign` to what it gives. In the
//!   arguments `|` ends a line;
//! - `share KEY`: adds one to a number that is shared, and sets the header `x-shared` to it;
//! - `enqueue QUEUE TEXT`: puts something into a queue.
//!
//! `tick PERIOD METRIC` counts in a metric each time that many milliseconds have passed. `queue QUEUE` counts what
//! comes in a queue in the metrics `queue.TEXT`. `parting UPSTREAM PATH` asks a service when the plugin goes, and waits for what it says. `revisions METRIC` sets a metric to the number of each revision.

mod tcp;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext, StreamContext};
use proxy_wasm::types::{Action, Bytes, ContextType, LogLevel, MapType, MetricType};
use std::rc::Rc;
use std::time::Duration;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Root { script: Rc::default() }));
}}

/// A line: the callback, whether only for the end, what to do.
type Line = (String, bool, Vec<String>);

struct Root {
    script: Rc<Vec<Line>>,
}

impl Context for Root {
    fn on_foreign_function(&mut self, function: u32, size: usize) {
        let given = hostcalls::get_buffer(proxy_wasm::types::BufferType::CallData, 0, size).unwrap().unwrap();
        assert_eq!(function, 1);
        let sequence = u64::from_le_bytes(given[..].try_into().unwrap());
        for (_, _, words) in self.script.iter().filter(|(callback, ..)| callback == "revisions") {
            let metric = hostcalls::define_metric(MetricType::Gauge, &words[0]).unwrap();
            hostcalls::record_metric(metric, sequence).unwrap();
        }
    }

    fn on_done(&mut self) -> bool {
        let Some((_, _, words)) = self.script.iter().find(|(callback, ..)| callback == "parting") else { return true };
        let headers = vec![(":method", "GET"), (":path", &*words[1]), (":authority", "probe")];
        self.dispatch_http_call(&words[0], headers, None, vec![], Duration::from_millis(300)).is_err()
    }

    fn on_http_call_response(&mut self, _: u32, _: usize, _: usize, _: usize) {
        self.done();
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        self.script = Rc::new(text.lines().filter_map(line).collect());
        if let Some((_, _, words)) = self.script.iter().find(|(callback, ..)| callback == "tick") {
            self.set_tick_period(Duration::from_millis(words[0].parse().unwrap()));
        }
        for (_, _, words) in self.script.iter().filter(|(callback, ..)| callback == "queue") {
            self.register_shared_queue(&words[0]);
        }
        if self.script.iter().any(|(callback, ..)| callback == "revisions") {
            hostcalls::call_foreign_function("weir.watch_revisions", None).unwrap();
        }
        true
    }

    fn on_queue_ready(&mut self, queue: u32) {
        if let Ok(Some(item)) = self.dequeue_shared_queue(queue) {
            count(&format!("queue.{}", String::from_utf8_lossy(&item)));
        }
    }

    fn on_tick(&mut self) {
        for (_, _, words) in self.script.iter().filter(|(callback, ..)| callback == "tick") {
            count(&words[1]);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { script: Rc::clone(&self.script) }))
    }

    fn create_stream_context(&self, _: u32) -> Option<Box<dyn StreamContext>> {
        Some(Box::new(tcp::Connection::new(&self.script)))
    }

    fn get_type(&self) -> Option<ContextType> {
        let is_tcp = self.script.iter().any(|(callback, ..)| callback == "tcp");
        Some(if is_tcp { ContextType::StreamContext } else { ContextType::HttpContext })
    }
}

fn line(text: &str) -> Option<Line> {
    let mut words = text.split_whitespace().map(str::to_owned);
    let callback = words.next()?;
    let mut words: Vec<_> = words.collect();
    let is_for_end = words.first().is_some_and(|word| word == "end");
    if is_for_end {
        words.remove(0);
    }
    Some((callback, is_for_end, words))
}

struct Exchange {
    script: Rc<Vec<Line>>,
}

/// What a callback is about.
struct Of {
    map: MapType,
    is_request: bool,
    size: usize,
    is_end: bool,
}

impl Exchange {
    fn run(&self, callback: &str, of: &Of) -> Action {
        let mut action = Action::Continue;
        let script = Rc::clone(&self.script);
        for (_, _, words) in script.iter().filter(|(of_line, end, _)| of_line == callback && (!end || of.is_end)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let rest = |from: usize| words.get(from..).unwrap_or_default().join(" ");
            match words[..] {
                ["set", name, ..] => hostcalls::set_map_value(of.map, name, Some(&rest(2))).unwrap(),
                ["add", name, ..] => hostcalls::add_map_value(of.map, name, &rest(2)).unwrap(),
                ["remove", name] => hostcalls::set_map_value(of.map, name, None).unwrap(),
                ["property", path, "as", name] => {
                    let value = self.get_property(path.split('.').collect()).map(shown);
                    hostcalls::set_map_value(of.map, name, Some(&value.unwrap_or_else(|| "none".to_owned()))).unwrap();
                }
                ["property", path, "into", metric] => {
                    let value = self.get_property(path.split('.').collect()).map(shown).unwrap_or_default();
                    let metric = hostcalls::define_metric(MetricType::Gauge, metric).unwrap();
                    hostcalls::record_metric(metric, value.parse().unwrap_or(u64::MAX >> 1)).unwrap();
                }
                ["put", path, ..] => {
                    let path = path.split('.').collect::<Vec<_>>();
                    self.set_property(path, Some(rest(2).as_bytes()));
                }
                ["body", ..] => self.set_body(of, 0, usize::MAX >> 1, rest(1).as_bytes()),
                ["append", ..] => self.set_body(of, of.size, 0, rest(1).as_bytes()),
                ["upper"] => {
                    let body = self.body(of).to_ascii_uppercase();
                    self.set_body(of, 0, of.size, &body);
                }
                ["size", name] => self.set_property(vec![name], Some(of.size.to_string().as_bytes())),
                ["reply", status, ..] => {
                    let headers = vec![("x-from", "probe")];
                    self.send_http_response(status.parse().unwrap(), headers, Some(rest(2).as_bytes()));
                    action = Action::Pause;
                }
                ["reset"] if of.is_request => self.reset_http_request(),
                ["reset"] => self.reset_http_response(),
                ["pause"] => action = Action::Pause,
                ["go"] => action = Action::Continue,
                ["panic"] => panic!("as the configuration says"),
                ["panic-at", name] if self.get_http_request_header(name).is_some() => panic!("as the request says"),
                ["loop-at", name] if self.get_http_request_header(name).is_some() => spin(),
                ["panic-at" | "loop-at", _] => {}
                ["share-and-panic", key] => {
                    let (value, _) = self.get_shared_data(key);
                    self.set_shared_data(key, Some(b"there"), None).unwrap();
                    if value.as_deref() != Some(b"there") {
                        panic!("as the configuration says, at first");
                    }
                    self.set_shared_data(key, Some(b"gone"), None).unwrap();
                }
                ["loop"] => spin(),
                ["grow", mib] => {
                    for _ in 0..mib.parse().unwrap() {
                        std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
                    }
                }
                ["log", ..] => hostcalls::log(LogLevel::Warn, &rest(1)).unwrap(),
                ["count", metric] => count(metric),
                ["call", upstream, path] => {
                    let headers =
                        vec![(":method", "GET"), (":path", path), (":authority", "probe"), ("x-asked", "yes")];
                    match self.dispatch_http_call(upstream, headers, None, vec![], Duration::from_millis(300)) {
                        Ok(_) => action = Action::Pause,
                        Err(status) => {
                            hostcalls::set_map_value(of.map, "x-call", Some(&format!("{status:?}"))).unwrap()
                        }
                    }
                }
                ["call-with-trailers", upstream, name, value] => {
                    let headers = vec![(":method", "POST"), (":path", "/"), (":authority", "probe")];
                    let sent = self.dispatch_http_call(
                        upstream,
                        headers,
                        Some(b"body"),
                        vec![(name, value)],
                        Duration::from_millis(300),
                    );
                    sent.unwrap();
                    action = Action::Pause;
                }
                ["grpc", upstream, ..] => {
                    let sent = self.dispatch_grpc_call(
                        upstream,
                        "probe.Echo",
                        "Say",
                        vec![("x-asked", b"yes")],
                        Some(rest(2).as_bytes()),
                        Duration::from_millis(300),
                    );
                    match sent {
                        Ok(_) => action = Action::Pause,
                        Err(status) => self.said_by_grpc(&format!("{status:?}")),
                    }
                }
                ["grpc-stream", upstream, ..] => {
                    let stream = self.open_grpc_stream(upstream, "probe.Echo", "Chat", vec![]).unwrap();
                    self.send_grpc_stream_message(stream, Some(rest(2).as_bytes()), false);
                    self.send_grpc_stream_message(stream, Some(rest(2).as_bytes()), true);
                    action = Action::Pause;
                }
                ["grpc-cancel", upstream] => {
                    let stream = self.open_grpc_stream(upstream, "probe.Echo", "Chat", vec![]).unwrap();
                    let after = |what| format!("{:?}", what);
                    let close = hostcalls::close_grpc_stream(stream);
                    let ended = hostcalls::send_grpc_stream_message(stream, None, true);
                    let cancel = hostcalls::cancel_grpc_stream(stream);
                    let gone = hostcalls::cancel_grpc_stream(stream);
                    self.said_by_grpc(&[close, ended, cancel, gone].map(after).join(" "));
                }
                ["foreign", name, ..] => {
                    let given = rest(2).replace('|', "\n");
                    let said = match hostcalls::call_foreign_function(name, Some(given.as_bytes())) {
                        Ok(result) => format!("{:?}", result.unwrap_or_default()),
                        Err(status) => format!("{status:?}"),
                    };
                    hostcalls::set_map_value(of.map, "x-foreign", Some(&said)).unwrap();
                }
                ["enqueue", queue, ..] => {
                    let queue = self.resolve_shared_queue("", queue).unwrap();
                    self.enqueue_shared_queue(queue, Some(rest(2).as_bytes())).unwrap();
                }
                ["share", key] => loop {
                    let (value, change) = self.get_shared_data(key);
                    let number = value.and_then(|text| String::from_utf8(text).ok()?.parse().ok()).unwrap_or(0_u64) + 1;
                    if self.set_shared_data(key, Some(number.to_string().as_bytes()), change).is_ok() {
                        hostcalls::set_map_value(of.map, "x-shared", Some(&number.to_string())).unwrap();
                        break;
                    }
                },
                _ => panic!("the configuration is wrong: {words:?}"),
            }
        }
        action
    }

    fn said_by_grpc(&self, text: &str) {
        let before = self.get_http_request_header("x-grpc").map_or_else(String::new, |before| before + "; ");
        self.set_http_request_header("x-grpc", Some(&(before + text)));
    }

    fn grpc_message(&self, size: usize) -> String {
        let message = hostcalls::get_buffer(proxy_wasm::types::BufferType::GrpcReceiveBuffer, 0, size).unwrap();
        String::from_utf8_lossy(&message.unwrap_or_default()).into_owned()
    }

    fn body(&self, of: &Of) -> Bytes {
        let body = if of.is_request {
            self.get_http_request_body(0, of.size)
        } else {
            self.get_http_response_body(0, of.size)
        };
        body.unwrap_or_default()
    }

    fn set_body(&self, of: &Of, start: usize, size: usize, value: &[u8]) {
        if of.is_request {
            self.set_http_request_body(start, size, value);
        } else {
            self.set_http_response_body(start, size, value);
        }
    }
}

/// Eight bytes are a number more often than not, and one is a yes or no.
fn shown(value: Bytes) -> String {
    if let [yes @ (0 | 1)] = value[..] {
        return yes.to_string();
    }
    match <[u8; 8]>::try_from(&value[..]) {
        Ok(bytes) if !bytes.is_ascii() || bytes[7] == 0 => i64::from_le_bytes(bytes).to_string(),
        _ => String::from_utf8_lossy(&value).into_owned(),
    }
}

fn count(metric: &str) {
    let metric = hostcalls::define_metric(MetricType::Counter, metric).unwrap();
    hostcalls::increment_metric(metric, 1).unwrap();
}

fn spin() {
    loop {
        std::hint::black_box(0);
    }
}

impl Context for Exchange {
    fn on_http_call_response(&mut self, _: u32, _: usize, size: usize, _: usize) {
        let status = self.get_http_call_response_header(":status").unwrap_or_default();
        let body = self.get_http_call_response_body(0, size).unwrap_or_default();
        let said = format!("{status} {}", String::from_utf8_lossy(&body));
        self.set_http_request_header("x-call", Some(&said));
        self.resume_http_request();
    }

    fn on_grpc_call_response(&mut self, _: u32, status: u32, size: usize) {
        let said = match status {
            0 => self.grpc_message(size),
            _ => format!("{:?}", self.get_grpc_status()),
        };
        self.said_by_grpc(&said);
        self.resume_http_request();
    }

    fn on_grpc_stream_initial_metadata(&mut self, _: u32, count: u32) {
        let value = hostcalls::get_map_value(MapType::GrpcReceiveInitialMetadata, "x-initial").unwrap();
        self.said_by_grpc(&format!("initial {} {}", count > 0, value.unwrap_or_default()));
    }

    fn on_grpc_stream_message(&mut self, _: u32, size: usize) {
        self.said_by_grpc(&self.grpc_message(size));
    }

    fn on_grpc_stream_trailing_metadata(&mut self, _: u32, count: u32) {
        let value = hostcalls::get_map_value(MapType::GrpcReceiveTrailingMetadata, "x-trailing").unwrap();
        self.said_by_grpc(&format!("trailing {} {}", count > 0, value.unwrap_or_default()));
    }

    fn on_grpc_stream_close(&mut self, _: u32, status: u32) {
        self.said_by_grpc(&format!("closed {status}"));
        self.resume_http_request();
    }
}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, is_end: bool) -> Action {
        let of = Of { map: MapType::HttpRequestHeaders, is_request: true, size: 0, is_end };
        self.run("request-headers", &of)
    }

    fn on_http_request_body(&mut self, size: usize, is_end: bool) -> Action {
        self.run("request-body", &Of { map: MapType::HttpRequestHeaders, is_request: true, size, is_end })
    }

    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        let of = Of { map: MapType::HttpRequestTrailers, is_request: true, size: 0, is_end: true };
        self.run("request-trailers", &of)
    }

    fn on_http_response_headers(&mut self, _: usize, is_end: bool) -> Action {
        let of = Of { map: MapType::HttpResponseHeaders, is_request: false, size: 0, is_end };
        self.run("response-headers", &of)
    }

    fn on_http_response_body(&mut self, size: usize, is_end: bool) -> Action {
        self.run("response-body", &Of { map: MapType::HttpResponseHeaders, is_request: false, size, is_end })
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        let of = Of { map: MapType::HttpResponseTrailers, is_request: false, size: 0, is_end: true };
        self.run("response-trailers", &of)
    }

    fn on_log(&mut self) {
        self.run("log", &Of { map: MapType::HttpResponseHeaders, is_request: false, size: 0, is_end: true });
    }
}
