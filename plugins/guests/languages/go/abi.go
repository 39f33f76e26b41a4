package main

import (
	"encoding/binary"
	"unsafe"
)

// Actions, maps and buffers of proxy-wasm 0.2.1.
const (
	carryOn, pause = 0, 1

	requestHeaders, responseHeaders = 0, 2

	requestBody, callResponseBody, pluginConfiguration = 0, 4, 7
)

const (
	ok          = 0
	casMismatch = 8
)

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

// The host writes there what it gives. The collector runs only while Go does, and nothing of ours runs between this and the
// host's writing.
//
//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	return unsafe.Pointer(unsafe.SliceData(make([]byte, size)))
}

//go:wasmimport env proxy_log
func hostLog(level uint32, message string) uint32

//go:wasmimport env proxy_get_buffer_bytes
func hostGetBufferBytes(buffer, start, size uint32, to, toSize unsafe.Pointer) uint32

//go:wasmimport env proxy_set_buffer_bytes
func hostSetBufferBytes(buffer, start, size uint32, bytes unsafe.Pointer, bytesSize uint32) uint32

//go:wasmimport env proxy_get_header_map_value
func hostGetHeader(headers uint32, name string, to, toSize unsafe.Pointer) uint32

//go:wasmimport env proxy_add_header_map_value
func hostAddHeader(headers uint32, name, value string) uint32

//go:wasmimport env proxy_remove_header_map_value
func hostRemoveHeader(headers uint32, name string) uint32

//go:wasmimport env proxy_get_property
func hostGetProperty(path string, to, toSize unsafe.Pointer) uint32

//go:wasmimport env proxy_set_property
func hostSetProperty(path, value string) uint32

//go:wasmimport env proxy_get_shared_data
func hostGetSharedData(key string, to, toSize, cas unsafe.Pointer) uint32

//go:wasmimport env proxy_set_shared_data
func hostSetSharedData(key, value string, cas uint32) uint32

//go:wasmimport env proxy_define_metric
func hostDefineMetric(kind uint32, name string, to unsafe.Pointer) uint32

//go:wasmimport env proxy_increment_metric
func hostIncrementMetric(metric uint32, by int64) uint32

//go:wasmimport env proxy_send_local_response
func hostSendLocalResponse(status uint32, details, body, headers string, grpcStatus int32) uint32

//go:wasmimport env proxy_http_call
func hostHTTPCall(upstream, headers, body, trailers string, milliseconds uint32, to unsafe.Pointer) uint32

//go:wasmimport env proxy_set_effective_context
func hostSetEffectiveContext(context uint32) uint32

//go:wasmimport env proxy_continue_stream
func hostContinueStream(stream uint32) uint32

func check(status uint32) {
	if status != ok {
		panic(status)
	}
}

// What the host gives: nothing where it has nothing.
func given(status uint32, at unsafe.Pointer, size uint32) []byte {
	if status != ok {
		return nil
	}
	return unsafe.Slice((*byte)(at), size)
}

func bufferBytes(buffer, start, size uint32) []byte {
	var at unsafe.Pointer
	var found uint32
	status := hostGetBufferBytes(buffer, start, size, unsafe.Pointer(&at), unsafe.Pointer(&found))
	return given(status, at, found)
}

func setBufferBytes(buffer, start, size uint32, bytes []byte) {
	check(hostSetBufferBytes(buffer, start, size, unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes))))
}

func header(headers uint32, name string) string {
	var at unsafe.Pointer
	var size uint32
	return string(given(hostGetHeader(headers, name, unsafe.Pointer(&at), unsafe.Pointer(&size)), at, size))
}

func addHeader(headers uint32, name, value string) { check(hostAddHeader(headers, name, value)) }

func removeHeader(headers uint32, name string) { check(hostRemoveHeader(headers, name)) }

func property(path string) string {
	var at unsafe.Pointer
	var size uint32
	return string(given(hostGetProperty(path, unsafe.Pointer(&at), unsafe.Pointer(&size)), at, size))
}

func setProperty(path, value string) { check(hostSetProperty(path, value)) }

func sharedData(key string) ([]byte, uint32) {
	var at unsafe.Pointer
	var size, cas uint32
	status := hostGetSharedData(key, unsafe.Pointer(&at), unsafe.Pointer(&size), unsafe.Pointer(&cas))
	return given(status, at, size), cas
}

// Whether it is as it was when `cas` was read.
func setSharedData(key string, value []byte, cas uint32) bool {
	status := hostSetSharedData(key, string(value), cas)
	if status != casMismatch {
		check(status)
	}
	return status == ok
}

func defineCounter(name string) (metric uint32) {
	check(hostDefineMetric(0, name, unsafe.Pointer(&metric)))
	return metric
}

func incrementMetric(metric uint32, by int64) { check(hostIncrementMetric(metric, by)) }

func logInfo(message string) { check(hostLog(2, message)) }

// A map as the ABI has it: how many, the sizes, and the texts, each with a NUL.
func encoded(headers [][2]string) string {
	list := binary.LittleEndian.AppendUint32(nil, uint32(len(headers)))
	for _, pair := range headers {
		for _, text := range pair {
			list = binary.LittleEndian.AppendUint32(list, uint32(len(text)))
		}
	}
	for _, pair := range headers {
		for _, text := range pair {
			list = append(append(list, text...), 0)
		}
	}
	return string(list)
}

func sendLocalResponse(status uint32, body string, headers [][2]string) {
	check(hostSendLocalResponse(status, "", body, encoded(headers), -1))
}

func httpCall(upstream string, headers [][2]string, milliseconds uint32) (call uint32, made bool) {
	status := hostHTTPCall(upstream, encoded(headers), "", "", milliseconds, unsafe.Pointer(&call))
	return call, status == ok
}

func setEffectiveContext(context uint32) { check(hostSetEffectiveContext(context)) }

func continueRequest() { check(hostContinueStream(0)) }
