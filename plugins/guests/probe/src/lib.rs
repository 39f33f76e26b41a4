//! Does what its configuration says: a line for each thing, which begins with the callback that it is for.
//!
//! Callbacks are `request-headers`, `request-body`, `request-trailers`, `response-headers`, `response-body`,
//! `response-trailers`, `tick` and `log`. A line of a body may say `end` next: then it is for the last piece. What can be
//! done:
//!
//! - `set NAME VALUE`, `add NAME VALUE`, `remove NAME`: with the headers or trailers of the callback;
//! - `property PATH as NAME`: sets a header to a property, whose path is written with dots;
//! - `put PATH VALUE`: sets a property;
//! - `body TEXT`, `append TEXT`, `upper`: replaces, lengthens or shouts what there is of the body;
//! - `size NAME`: sets a property of that name to the size of the body that the callback was told;
//! - `reply STATUS TEXT`, `reset`, `pause`, and `go`, which takes a pause of the same callback back;
//! - `panic`, `loop`, `grow MIB`;
//! - `log TEXT`; `count METRIC`;
//! - `call UPSTREAM PATH`: asks a service, waits for what it says, and sets the header `x-call` to it;
//! - `share KEY`: adds one to a number that is shared, and sets the header `x-shared` to it.
//!
//! `tick PERIOD METRIC` counts in a metric each time that many milliseconds have passed.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
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

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let text = self.get_plugin_configuration().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        self.script = Rc::new(text.lines().filter_map(line).collect());
        if let Some((_, _, words)) = self.script.iter().find(|(callback, ..)| callback == "tick") {
            self.set_tick_period(Duration::from_millis(words[0].parse().unwrap()));
        }
        true
    }

    fn on_tick(&mut self) {
        for (_, _, words) in self.script.iter().filter(|(callback, ..)| callback == "tick") {
            count(&words[1]);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { script: Rc::clone(&self.script) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
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

/// Eight bytes are a number more often than not.
fn shown(value: Bytes) -> String {
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
