// What a thread does that answers requests. Its memory is one mapping for both directions:
//
//     0            4016      4096                                   4096 + 1 MiB
//     | unused     | request | payload of a write, or data of a read |
//
// A write request is 80 bytes of header and the payload, so the payload begins on a page. A read
// request is the 80 bytes only, so the data read may lie where payloads lie. A reply is its header
// of 16 bytes, just before the payload, and its body, in the payload's place.

import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// A request that was read from the connection.
struct ConnectionReply: ReplyWay {
    private static let replyHeaderBytes = MemoryLayout<fuse_out_header>.size

    let connection: Int32
    let payload: UnsafeMutableRawPointer

    @inline(__always)
    func beginsFlush(of file: ServedFile) { file.pool.beginsFlush() }

    @inline(__always)
    func send(_ unique: UInt64, bodyBytes: Int, error code: Int32) {
        let count = Self.replyHeaderBytes + bodyBytes
        let start = payload - Self.replyHeaderBytes
        start.storeBytes(
            of: fuse_out_header(len: UInt32(count), error: -code, unique: unique),
            as: fuse_out_header.self)
        // ENOENT: the request was given up meanwhile. ENODEV: the next read of the worker tells.
        _ = Glibc.write(connection, start, count)
    }
}

/// The work of each thread of a mount; shared by them, without state of its own.
final class Worker: Sendable {
    private static let page = 4096
    private static let headerBytes = MemoryLayout<fuse_in_header>.size
    /// Where a write's payload begins, from the request's begin.
    private static let payloadOffset = headerBytes + MemoryLayout<fuse_write_in>.size

    let file: ServedFile
    private let session: Session
    private let rings: Rings

    init(file: ServedFile, session: Session, rings: Rings) {
        self.file = file
        self.session = session
        self.rings = rings
    }

    /// Answers requests until the session ends.
    func run() {
        clinux_thread_name("fuse-worker")
        let pool = file.pool
        let page = Self.page
        let length = page + ServedFile.transferBytesMax + page
        let memory = mmap(
            nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else {
            // Without the first worker nobody serves; without another one those there go on.
            if pool.rounds == 0 { pool.end(ENOMEM) }
            return
        }
        defer { munmap(memory, length) }
        let request = memory + (page - Self.payloadOffset)
        let capacity = length - (page - Self.payloadOffset)
        let connection = session.descriptor
        let way = ConnectionReply(connection: connection, payload: memory + page)
        var buffer = fuse_buf()
        buffer.mem = request
        buffer.fd = -1
        var hasAborted = false
        var spin = Spin()
        while pool.mayRead() {
            // Only the single reader: another one that sleeps in read would be woken as well.
            if pool.beginsToWait() == 1, pool.mayLookOut { spin.untilReadable(connection) }
            let count = read(connection, request, capacity)
            let code = errno
            pool.endsToWait()
            if count > 0 {
                hasAborted = false
                if let data = Self.data(request, count: count, way) {
                    data.answer(from: file)
                    continue
                }
                buffer.size = count
                answerByLibfuse(&buffer)
                continue
            }
            switch code {
            // ENOENT: the request was interrupted before it was read.
            case EINTR, EAGAIN, ENOENT: continue
            case ENODEV: pool.end(0)  // unmounted
            // The unmount came while a request (the release of the file, say) was being read: the
            // next read says ENODEV. Only a connection that broke otherwise says it again.
            case ECONNABORTED where !hasAborted: hasAborted = true
            default: pool.end(count == 0 ? EPIPE : code)
            }
        }
    }
    /// The `count` bytes of a request at `memory`; nil when they are for libfuse.
    @inline(__always)
    private static func data(
        _ memory: UnsafeMutableRawPointer, count: Int, _ way: ConnectionReply
    ) -> DataRequest<ConnectionReply>? {
        guard count >= headerBytes else { return nil }
        let header = memory.load(as: fuse_in_header.self)
        guard Int(header.len) == count else { return nil }
        return DataRequest(
            header, arguments: memory + headerBytes, argumentBytes: count - headerBytes,
            payload: way.payload, payloadBytes: count - payloadOffset, way: way)
    }

    private func answerByLibfuse(_ buffer: inout fuse_buf) {
        let header = buffer.mem.load(as: fuse_in_header.self)
        guard fuse_opcode(header.opcode) == FUSE_INIT else {
            fuse_session_process_buf(session.pointer, &buffer)
            return
        }
        if rings.areOffered(in: buffer), rings.prepare() {
            ReplyRoute.initialization.process(&buffer, session)
            rings.begin()
        } else {
            fuse_session_process_buf(session.pointer, &buffer)
        }
        rings.isDecided()
    }
}
