// The plugin of tests.yaml with the SDK for AssemblyScript.

export * from "@gcoredev/proxy-wasm-sdk-as/assembly/proxy";
import {
  BaseContext,
  BufferTypeValues,
  Context,
  Counter,
  FilterDataStatusValues,
  FilterHeadersStatusValues,
  get_buffer_bytes,
  get_property,
  get_shared_data,
  log,
  LogLevelValues,
  makeHeaderPair,
  registerRootContext,
  RootContext,
  send_http_response,
  set_buffer_bytes,
  set_property,
  set_shared_data,
  stream_context,
  WasmResultValues,
} from "@gcoredev/proxy-wasm-sdk-as/assembly";

class Root extends RootContext {
  seen: Counter = new Counter("seen");

  createContext(id: u32): Context {
    return new Exchange(id, this);
  }

  onConfigure(size: u32): bool {
    return super.onConfigure(size) && this.getConfiguration().length > 0;
  }
}

class Exchange extends Context {
  root: Root;

  constructor(id: u32, root: Root) {
    super(id, root);
    this.root = root;
  }

  onRequestHeaders(_count: u32, _end: bool): FilterHeadersStatusValues {
    const by = this.root.getConfiguration();
    const headers = stream_context.headers.request;
    const ask = headers.get("x-ask");
    if (ask == "refuse") {
      send_http_response(403, "", String.UTF8.encode("refused by " + by), [makeHeaderPair("x-by", by)]);
      return FilterHeadersStatusValues.StopIteration;
    }
    if (ask == "fail") {
      throw new Error("told to fail");
    }
    const seen = headers.get(":method") + " " + headers.get(":path");
    log(LogLevelValues.info, by + ": " + seen);
    headers.add("x-by", by);
    headers.add("x-seen", seen);
    headers.remove("x-first");
    headers.remove("content-length");
    set_property("weir.match.by", String.UTF8.encode(by));
    this.root.seen.increment(1);
    if (ask != "call") {
      return FilterHeadersStatusValues.Continue;
    }
    const asked = this.root.httpCall(
      "auth:80",
      [
        makeHeaderPair(":method", "GET"),
        makeHeaderPair(":path", "/check"),
        makeHeaderPair(":authority", "auth"),
      ],
      new ArrayBuffer(0),
      [],
      1000,
      this,
      (origin: BaseContext, _headers: u32, size: usize, _trailers: u32) => {
        const answer = get_buffer_bytes(BufferTypeValues.HttpCallResponseBody, 0, size as u32);
        stream_context.headers.request.add("x-answer", String.UTF8.decode(answer));
        origin.continueRequest();
      },
    );
    return asked == WasmResultValues.Ok
      ? FilterHeadersStatusValues.StopIteration
      : FilterHeadersStatusValues.Continue;
  }

  onRequestBody(size: usize, end: bool): FilterDataStatusValues {
    if (!end) {
      return FilterDataStatusValues.StopIterationAndBuffer;
    }
    const body = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpRequestBody, 0, size as u32));
    const changed = String.UTF8.encode(this.root.getConfiguration() + ":" + body);
    set_buffer_bytes(BufferTypeValues.HttpRequestBody, 0, size as u32, changed);
    return FilterDataStatusValues.Continue;
  }

  onResponseHeaders(_count: u32, _end: bool): FilterHeadersStatusValues {
    let count: u64 = 0;
    for (;;) {
      const shared = get_shared_data("count");
      count = (shared.value === null ? 0 : Uint64Array.wrap(shared.value as ArrayBuffer)[0]) + 1;
      const value = new Uint64Array(1);
      value[0] = count;
      if (set_shared_data("count", value.buffer, shared.cas) != WasmResultValues.CasMismatch) {
        break;
      }
    }
    stream_context.headers.response.add("x-count", count.toString());
    stream_context.headers.response.add("x-path", String.UTF8.decode(get_property("request\0url_path")));
    return FilterHeadersStatusValues.Continue;
  }
}

registerRootContext((id: u32) => new Root(id), "");
