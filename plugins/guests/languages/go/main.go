// The plugin of tests.yaml in Go: what the compiler and the runtime of Go make, as the SDK for it has them make it. The SDK itself
// is in no registry, so the few functions of the ABI that are wanted stand in abi.go.
package main

import (
	"encoding/binary"
	"strconv"
)

// What the plugin is configured with.
var by string

var seen uint32

// The exchanges that wait for an answer, by the call that was made for each.
var waiting = map[uint32]uint32{}

func main() {}

//go:wasmexport proxy_on_vm_start
func onVMStart(_, _ uint32) bool {
	seen = defineCounter("seen")
	return true
}

//go:wasmexport proxy_on_configure
func onConfigure(_, size uint32) bool {
	by = string(bufferBytes(pluginConfiguration, 0, size))
	return by != ""
}

//go:wasmexport proxy_on_context_create
func onContextCreate(_, _ uint32) {}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(context, _ uint32, _ bool) uint32 {
	ask := header(requestHeaders, "x-ask")
	switch ask {
	case "refuse":
		sendLocalResponse(403, "refused by "+by, [][2]string{{"x-by", by}})
		return pause
	case "fail":
		panic("told to fail")
	}
	what := header(requestHeaders, ":method") + " " + header(requestHeaders, ":path")
	logInfo(by + ": " + what)
	addHeader(requestHeaders, "x-by", by)
	addHeader(requestHeaders, "x-seen", what)
	removeHeader(requestHeaders, "x-first")
	removeHeader(requestHeaders, "content-length")
	setProperty("weir.match.by", by)
	incrementMetric(seen, 1)
	if ask != "call" {
		return carryOn
	}
	head := [][2]string{{":method", "GET"}, {":path", "/check"}, {":authority", "auth"}}
	call, ok := httpCall("auth:80", head, 1000)
	if !ok {
		return carryOn
	}
	waiting[call] = context
	return pause
}

//go:wasmexport proxy_on_http_call_response
func onHTTPCallResponse(_, call, _, size, _ uint32) {
	context := waiting[call]
	delete(waiting, call)
	setEffectiveContext(context)
	addHeader(requestHeaders, "x-answer", string(bufferBytes(callResponseBody, 0, size)))
	continueRequest()
}

//go:wasmexport proxy_on_request_body
func onRequestBody(_, size uint32, end bool) uint32 {
	if !end {
		return pause
	}
	body := bufferBytes(requestBody, 0, size)
	setBufferBytes(requestBody, 0, size, append([]byte(by+":"), body...))
	return carryOn
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(_, _ uint32, _ bool) uint32 {
	var count uint64
	for {
		value, cas := sharedData("count")
		count = 1
		if len(value) == 8 {
			count = binary.LittleEndian.Uint64(value) + 1
		}
		if setSharedData("count", binary.LittleEndian.AppendUint64(nil, count), cas) {
			break
		}
	}
	addHeader(responseHeaders, "x-count", strconv.FormatUint(count, 10))
	addHeader(responseHeaders, "x-path", property("request\x00url_path"))
	return carryOn
}

//go:wasmexport proxy_on_done
func onDone(_ uint32) bool { return true }

//go:wasmexport proxy_on_log
func onLog(_ uint32) {}

//go:wasmexport proxy_on_delete
func onDelete(_ uint32) {}
