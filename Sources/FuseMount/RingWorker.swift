// What the thread of one entry of a ring does. Its memory is one mapping for both directions:
//
//     0                     4096                                   4096 + 1 MiB
//     | header, see below   | payload of a request, then of its reply |
//
// The header is the kernel's clinux_fuse_header; the page's end holds a request for libfuse, header
// and first argument, so that it is in one piece with the payload.

import CFuse
import CLinux
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// The reply in an entry; the next commit sends it.
struct EntryReply: ReplyWay {
    static let page = 4096

    let memory: UnsafeMutableRawPointer
    var header: UnsafeMutablePointer<clinux_fuse_header> {
        memory.assumingMemoryBound(to: clinux_fuse_header.self)
    }
    var payload: UnsafeMutableRawPointer { memory + Self.page }

    /// The next free entry's thread takes the next request; there is nobody to call.
    @inline(__always)
    func beginsFlush(of file: ServedFile) {}

    @inline(__always)
    func send(_ unique: UInt64, bodyBytes: Int, error code: Int32) {
        // The length is what payload_bytes says.
        memory.storeBytes(
            of: fuse_out_header(len: 0, error: -code, unique: unique), as: fuse_out_header.self)
        header.pointee.entry.payload_bytes = UInt32(bodyBytes)
    }

    /// A reply of libfuse: its header, and the pieces of its body. Returns what writev does.
    func send(_ reply: fuse_out_header, _ body: Slice<UnsafeBufferPointer<iovec>>) -> Int {
        let count = body.reduce(0) { $0 + $1.iov_len }
        guard count <= ServedFile.transferBytesMax else {
            errno = EINVAL
            return -1
        }
        var target = payload
        for piece in body {
            // A piece may lie where the request did.
            if let source = piece.iov_base { memmove(target, source, piece.iov_len) }
            target += piece.iov_len
        }
        send(reply.unique, bodyBytes: count, error: -reply.error)
        return MemoryLayout<fuse_out_header>.size + count
    }
}

/// How many entries may keep memory of large requests. The kernel prefers the entry that came back
/// last, so few are used as long as few requests are under way at once.
struct LargeBuffers: ~Copyable {
    private static let most = 16
    /// What an entry may keep in any case.
    static let smallBytes = 128 << 10

    private let count = Atomic<Int>(0)

    /// Whether one more may.
    func take() -> Bool {
        if count.wrappingAdd(1, ordering: .relaxed).newValue <= Self.most { return true }
        count.wrappingSubtract(1, ordering: .relaxed)
        return false
    }
}

/// One entry at work. Used by its thread only.
struct RingWorker: ~Copyable {
    private static let headerBytes = MemoryLayout<fuse_in_header>.size
    private static let requestsUntilBound = 256
    private static let length = EntryReply.page + ServedFile.transferBytesMax

    private let rings: Rings
    private let queue: RingQueue
    private let file: ServedFile
    private let way: EntryReply
    /// A request's first argument, in the entry.
    private let arguments: UnsafeRawPointer
    private var entry = clinux_fuse_entry()
    /// How much of the payload's memory has been used since it was last given back.
    private var touchedBytes = 0
    private var keepsLarge = false
    /// Requests in a row while no other entry of the queue had one.
    private var requestsAlone = 0

    /// nil when there is no memory or no io_uring.
    init?(_ rings: Rings, _ queue: RingQueue) {
        let memory = mmap(
            nil, Self.length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED,
            let offset = MemoryLayout<clinux_fuse_header>.offset(of: \.arguments)
        else { return nil }
        guard clinux_fuse_entry_open(&entry, rings.session.descriptor, rings.stop) == 0 else {
            munmap(memory, Self.length)
            return nil
        }
        self.rings = rings
        self.queue = queue
        file = rings.file
        way = EntryReply(memory: memory)
        arguments = UnsafeRawPointer(memory + offset)
    }

    deinit {
        var entry = entry
        clinux_fuse_entry_close(&entry)
        munmap(way.memory, Self.length)
    }

    /// Why a thread has nothing more to do, as an errno.
    enum End {
        /// The kernel does not take the entry.
        case refused(Int32)
        /// 0: as it should.
        case ended(Int32)
    }

    /// Answers requests of the queue until the connection or `rings` end. `whenRegistered` is
    /// called once, when the kernel has the entry or does not take it.
    mutating func serve(whenRegistered: () -> Void) -> End {
        var code = clinux_fuse_entry_register(
            &entry, UInt16(queue.number), way.header, way.payload, ServedFile.transferBytesMax)
        if code == 0 { queue.isRegistered() }
        whenRegistered()
        if code == 0 { code = clinux_fuse_entry_wait(&entry) }
        guard code == 0 || Self.isEnd(code) else { return .refused(-code) }
        while code == 0 {
            let payloadBytes = Int(way.header.pointee.entry.payload_bytes)
            if queue.begins() == 1 { isAlone() } else { requestsAlone = 0 }
            answer(payloadBytes: payloadBytes)
            queue.ends()
            let bodyBytes = Int(way.header.pointee.entry.payload_bytes)
            touchedBytes = max(touchedBytes, payloadBytes, bodyBytes)
            if touchedBytes > LargeBuffers.smallBytes, !keepsLarge { shrink(bodyBytes) }
            code = clinux_fuse_entry_commit(&entry)
        }
        return .ended(Self.isEnd(code) ? 0 : -code)
    }

    /// One request at a time comes, and to this entry: the kernel prefers the one that came back
    /// last, whichever that was when many came at once. So it becomes the bound one.
    @inline(__always)
    private mutating func isAlone() {
        requestsAlone += 1
        guard requestsAlone == Self.requestsUntilBound else { return }
        requestsAlone = 0
        queue.bind()
    }

    /// Unmounted, or called back.
    private static func isEnd(_ code: Int32) -> Bool {
        [-ENOTCONN, -ECONNABORTED, -ENODEV, -ECANCELED].contains(code)
    }

    /// Gives memory of a large payload back, unless it may be kept or the reply still needs it.
    private mutating func shrink(_ bodyBytes: Int) {
        keepsLarge = rings.largeBuffers.take()
        guard !keepsLarge, bodyBytes <= LargeBuffers.smallBytes else { return }
        madvise(
            way.payload + LargeBuffers.smallBytes,
            ServedFile.transferBytesMax - LargeBuffers.smallBytes, Int32(MADV_DONTNEED))
        touchedBytes = LargeBuffers.smallBytes
    }

    @inline(__always)
    private func answer(payloadBytes: Int) {
        let header = way.memory.load(as: fuse_in_header.self)
        let argumentBytes = Int(header.len) - Self.headerBytes - payloadBytes
        if let data = DataRequest(
            header, arguments: arguments, argumentBytes: argumentBytes, payload: way.payload,
            payloadBytes: payloadBytes, way: way)
        {
            data.answer(from: file)
        } else {
            answerByLibfuse(header, argumentBytes, payloadBytes)
        }
    }

    private func answerByLibfuse(
        _ header: fuse_in_header, _ argumentBytes: Int, _ payloadBytes: Int
    ) {
        // Stands when libfuse does not answer.
        way.send(header.unique, bodyBytes: 0, error: EIO)
        guard 0...128 ~= argumentBytes else { return }
        let start = way.payload - argumentBytes - Self.headerBytes
        memcpy(start + Self.headerBytes, arguments, argumentBytes)
        start.storeBytes(of: header, as: fuse_in_header.self)
        var buffer = fuse_buf()
        buffer.mem = start
        buffer.size = Int(header.len)
        buffer.fd = -1
        ReplyRoute.entry(way, unique: header.unique).process(&buffer, rings.session)
    }
}
