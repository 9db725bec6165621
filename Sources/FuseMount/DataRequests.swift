// Read, write and sync: the way of every block. These kinds of request, which concern the one file
// (or are reads of a past state), the threads answer themselves, in the kernel's own format
// (<linux/fuse.h>, protocol 7.9 and later); libfuse would allocate, lock twice and gather the reply
// from pieces for each. All others go through libfuse.
//
// A request has its payload on a page: what is to be written. The reply's body takes its place: the
// data read, or a fuse_write_out. Where both lie, and how a reply goes back, is the matter of who
// got the request: Worker.swift from the connection, RingWorker.swift from an io_uring.
//
// Allocates nothing and counts no references.

import BlockModel
import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// The way back to the kernel for the request in a thread's memory.
protocol ReplyWay {
    /// The request will wait for a disk.
    func beginsFlush(of file: ServedFile)

    /// Sends a reply, whose body is the first `bodyBytes` of the payload. `error` is an errno or 0.
    func send(_ unique: UInt64, bodyBytes: Int, error: Int32)
}

/// A request for data in a thread's memory. Lives while it is answered.
struct DataRequest<Way: ReplyWay> {
    private let header: fuse_in_header
    /// fuse_write_in, fuse_read_in or fuse_fsync_in.
    private let arguments: UnsafeRawPointer
    private let payload: UnsafeMutableRawPointer
    private let way: Way

    /// nil when the request is for libfuse. `argumentBytes` and `payloadBytes` are what came; the
    /// memory at `payload` holds `ServedFile.transferBytesMax`.
    @inline(__always)
    init?(
        _ header: fuse_in_header, arguments: UnsafeRawPointer, argumentBytes: Int,
        payload: UnsafeMutableRawPointer, payloadBytes: Int, way: Way
    ) {
        switch fuse_opcode(header.opcode) {
        case FUSE_WRITE:
            guard argumentBytes >= MemoryLayout<fuse_write_in>.size else { return nil }
            let size = arguments.load(as: fuse_write_in.self).size
            guard Int(size) == payloadBytes else { return nil }
        case FUSE_READ:
            guard argumentBytes >= MemoryLayout<fuse_read_in>.size else { return nil }
        case FUSE_FSYNC, FUSE_INTERRUPT: break
        default: return nil
        }
        self.header = header
        self.arguments = arguments
        self.payload = payload
        self.way = way
    }

    /// Does what is asked, and replies.
    @inline(__always)
    func answer(from file: ServedFile) {
        switch fuse_opcode(header.opcode) {
        case FUSE_WRITE: write(to: file)
        case FUSE_READ: read(from: file)
        case FUSE_FSYNC: flush(file)
        // libfuse does not know the requests answered here. The kernel sends no more of these.
        default: reply(error: ENOSYS)
        }
    }

    /// A write beyond the end has no space; one across the end is short, but with O_DIRECT, where
    /// the kernel makes EIO of a short answer, it has no space.
    private func write(to file: ServedFile) {
        guard header.nodeid == Inode.file else { return reply(error: EROFS) }
        let request = arguments.load(as: fuse_write_in.self)
        let size = UInt64(request.size)
        let space = file.byteCount - min(request.offset, file.byteCount)
        let count = min(size, space)
        if count < size, count == 0 || Int32(bitPattern: request.flags) & clinux_o_direct != 0 {
            return reply(error: ENOSPC)
        }
        do throws(DeviceError) {
            if count > 0 {
                try file.device.write(
                    UnsafeRawBufferPointer(start: payload, count: Int(count)), at: request.offset)
                file.noteWritten()
            }
        } catch {
            return reply(error: error.rawValue)
        }
        payload.storeBytes(
            of: fuse_write_out(size: UInt32(count), padding: 0), as: fuse_write_out.self)
        reply(bodyBytes: MemoryLayout<fuse_write_out>.size)
    }

    /// Reads at or after the end give no bytes, reads across it those before it.
    private func read(from file: ServedFile) {
        let request = arguments.load(as: fuse_read_in.self)
        let space = file.byteCount - min(request.offset, file.byteCount)
        let count = Int(min(UInt64(request.size), space))
        // max_read is part of the mount's options.
        guard count <= ServedFile.transferBytesMax else { return reply(error: EINVAL) }
        let bytes = UnsafeMutableRawBufferPointer(start: payload, count: count)
        do throws(DeviceError) {
            if header.nodeid != Inode.file {
                guard let past = file.openPasts.device(request.fh) else { throw .invalid }
                try past.read(into: bytes, at: request.offset)
            } else if count > 0 {
                try file.device.read(into: bytes, at: request.offset)
            }
        } catch {
            return reply(error: error.rawValue)
        }
        reply(bodyBytes: count)
    }

    /// fsync and fdatasync; also what the kernel sends after each write of an O_SYNC or O_DSYNC
    /// file, before write(2) returns.
    private func flush(_ file: ServedFile) {
        guard header.nodeid == Inode.file else { return reply(bodyBytes: 0) }
        way.beginsFlush(of: file)
        do throws(DeviceError) {
            try file.device.flush()
            reply(bodyBytes: 0)
        } catch {
            reply(error: error.rawValue)
        }
    }

    private func reply(error code: Int32) {
        way.send(header.unique, bodyBytes: 0, error: code)
    }

    private func reply(bodyBytes: Int) {
        way.send(header.unique, bodyBytes: bodyBytes, error: 0)
    }
}
