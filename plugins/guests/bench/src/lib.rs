//! A known amount of work for each request, by configuration: `headers` reads ten headers and writes one, `body` reads
//! the whole body as it comes, `nothing` is only called.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

/// What is read: those that every request has, and others.
const READ: [&str; 10] = [
    ":path",
    ":method",
    ":authority",
    "x-user-tag",
    "user-agent",
    "accept",
    "cookie",
    "content-type",
    "authorization",
    "x-request-id",
];

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { work: Work::Nothing }));
}}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Nothing,
    Headers,
    Body,
}

struct Root {
    work: Work,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        self.work = match self.get_plugin_configuration().as_deref() {
            Some(b"headers") => Work::Headers,
            Some(b"body") => Work::Body,
            Some(b"nothing") => Work::Nothing,
            _ => return false,
        };
        true
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Exchange { work: self.work, bytes: 0 }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Exchange {
    work: Work,
    bytes: usize,
}

impl Context for Exchange {}

impl HttpContext for Exchange {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        if self.work == Work::Headers {
            let bytes: usize =
                READ.iter().filter_map(|name| self.get_http_request_header_bytes(name)).map(|value| value.len()).sum();
            self.set_http_request_header("x-read", Some(if bytes > 0 { "some" } else { "none" }));
        }
        Action::Continue
    }

    fn on_http_request_body(&mut self, size: usize, _: bool) -> Action {
        if self.work == Work::Body && size > 0 {
            self.bytes += self.get_http_request_body(0, size).map_or(0, |body| body.len());
            std::hint::black_box(self.bytes);
        }
        Action::Continue
    }
}
