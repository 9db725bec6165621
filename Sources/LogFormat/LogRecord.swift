// A record as readers of a log hand it on: header and borrowed payload, in LSN order.

import BlockModel

/// One record. The payload is borrowed: it is valid until the source's next call.
public struct LogRecord {
    public var header: RecordHeader
    /// `header.payloadBytes` bytes; empty for kinds without payload.
    public var payload: UnsafeRawBufferPointer

    public init(header: RecordHeader, payload: UnsafeRawBufferPointer) {
        self.header = header
        self.payload = payload
    }
}

/// Records one by one, LSNs rising by exactly one, pads left out. One reader, one thread.
public protocol RecordSource: AnyObject {
    /// The next record; nil at the end of what is durable. Throws on damage and input errors.
    func next() throws -> LogRecord?
}
