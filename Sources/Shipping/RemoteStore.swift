// The segments of a volume at a log server: what reads a folder of segments reads these. Tails and
// what follows forward reads are fetched ahead over several connections (ReadAhead.swift), so that
// a round trip of many milliseconds is not paid for each block.
//
// Whatever arrives is checked by who reads it, as with a folder: this store only makes sure that it
// is of the range that was asked for.

import DiskIO
import History
import LogFormat
import ServerAPI

#if canImport(Glibc)
    import Glibc
#endif

/// A store at a log server. Any thread may call but a cooperative one; calls block.
public final class RemoteStore: SegmentStore {
    public let client: LogServerClient
    private let ahead: AheadReader

    public init(_ client: LogServerClient) {
        self.client = client
        ahead = AheadReader { name, target, offset throws(StoreError) in
            do throws(ShipError) {
                try client.readSegment(name, into: target, at: offset)
            } catch { throw StoreError(.read, "\(name)", error, remote: "\(client.url)") }
        }
    }

    public var label: String { "\(client.url)" }

    public func list() throws(StoreError) -> [StoredSegment] {
        let listing: SegmentListing
        do throws(ShipError) {
            listing = try client.segments()
        } catch { throw StoreError(.list, label, error, remote: label) }
        let found = listing.segments.compactMap { entry in
            SegmentName(entry.name).map { StoredSegment(name: $0, byteCount: entry.bytes) }
        }
        ahead.note(found)
        return found.sorted { $0.name < $1.name }
    }

    public func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        try ahead.read(name, into: target, at: offset)
    }

    public func expect(_ ranges: [SegmentRange]) { ahead.expect(ranges) }

    public func upload() throws(StoreError) -> any SegmentUpload { RemoteUpload(client, self) }

    public func delete(_ name: SegmentName) throws(StoreError) {
        forget(name)
        do throws(ShipError) {
            try client.deleteSegment(name)
        } catch { throw StoreError(.delete, "\(name)", error, remote: label) }
    }

    func forget(_ name: SegmentName) { ahead.forget(name) }
}

extension StoreError {
    /// What a failed request means for the segment or the store.
    package init(
        _ operation: Operation, _ object: String, _ error: ShipError, remote: String
    ) {
        let cause: Cause =
            switch error {
            case .unreachable(let text), .busy(_, let text): .unreachable(text)
            case .full: .io(IOError(.write, remote, ENOSPC))
            case .refused(let text), .fenced(let text): .refused(text)
            case .source(let error): error.cause
            case .stopped: .unreachable("stopped")
            case .rejected(let reply):
                switch reply.code {
                case .missing, .noVolume: .missing
                case .exists: .exists
                case .range: .short
                case .failed: .io(IOError(.read, object, EIO))
                default: .refused(reply.what)
                }
            }
        self.init(operation, object, cause)
    }
}
