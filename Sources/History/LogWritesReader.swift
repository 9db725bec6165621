// Reads a log of dm-log-writes from a file or device (layout: LogFormat/LogWritesFormat.swift), as
// steps in the order in which they happened. Memory: 1 MiB.
//
// What the flags mean here: FLUSH says that everything before was flushed, so the flush comes
// before the entry's own data. FUA says that the entry was durable when it was complete, and the
// kernel writes the log in the order in which things became durable: so a flush comes behind its
// data. METADATA is a hint and dropped.

import BlockModel
import DiskIO
import LogFormat

/// One thing that happened to the disk. Memory of a write is valid during the call.
public enum LogWritesStep {
    /// At most 1 MiB; a longer entry becomes several.
    case write(offset: UInt64, UnsafeRawBufferPointer)
    case discard(offset: UInt64, count: UInt64)
    case flush
    /// `isRenamed`: the name in the log was none for a mark of a volume.
    case mark(String, isRenamed: Bool)
}

/// Why a log could not be read.
public enum LogWritesFailure: Error, Sendable {
    case log(LogWritesError)
    case io(IOError)
}

/// What a log holds.
public struct LogWritesSummary: Hashable, Sendable {
    public var entries: UInt64 = 0
    public var writes: UInt64 = 0
    public var writtenBytes: UInt64 = 0
    public var discards: UInt64 = 0
    public var flushes: UInt64 = 0
    public var marks: UInt64 = 0
    public var renamedMarks: UInt64 = 0
    /// The disk must have so many bytes at least.
    public var endOffset: UInt64 = 0

    public init() {}
}

/// One log. One thread.
public final class LogWritesReader {
    private let file: StorageFile
    private let fileBytes: UInt64
    public let head: LogWritesSuper
    private let memory: AlignedBuffer
    private static let pieceBytes = 1 << 20

    /// Reads the super. The file is borrowed.
    public init(_ file: StorageFile) throws(LogWritesFailure) {
        self.file = file
        memory = AlignedBuffer(count: Self.pieceBytes)
        let first = UnsafeMutableRawBufferPointer(
            rebasing: memory.bytes[..<LogWritesSuper.usedBytes])
        let count: Int
        do throws(IOError) {
            fileBytes = try file.size()
            count = try file.read(into: first, at: 0)
        } catch { throw .io(error) }
        do throws(LogWritesError) {
            head = try LogWritesSuper.decode(
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(first)[..<count]))
        } catch { throw .log(error) }
    }

    /// Reads and checks all headers, no data: whether the log is whole, and what is in it.
    public func scan() throws(LogWritesFailure) -> LogWritesSummary {
        var summary = LogWritesSummary()
        try walk { entry, _ throws(LogWritesFailure) in
            summary.entries += 1
            let sectorBytes = UInt64(head.sectorBytes)
            let bytes = entry.sectorCount * sectorBytes
            if bytes > 0 {
                summary.endOffset = max(summary.endOffset, entry.sector * sectorBytes + bytes)
            }
            if entry.flags.contains(.discard) {
                summary.discards += bytes > 0 ? 1 : 0
            } else if bytes > 0 {
                summary.writes += 1
                summary.writtenBytes += bytes
            }
            if Self.flushesBefore(entry) { summary.flushes += 1 }
            if Self.flushesAfter(entry) { summary.flushes += 1 }
            if entry.flags.contains(.mark) {
                summary.marks += 1
                let isRenamed = Self.markName(entry.name, number: summary.entries - 1).isRenamed
                summary.renamedMarks += isRenamed ? 1 : 0
            }
        }
        return summary
    }

    /// Gives all steps to `body`.
    public func forEachStep(
        _ body: (LogWritesStep) throws -> Void
    ) throws {
        var number: UInt64 = 0
        var failure: (any Error)?
        try walk { entry, dataOffset throws(LogWritesFailure) in
            if failure != nil { return }
            do {
                try steps(of: entry, number, dataOffset, body)
            } catch { failure = error }
            number += 1
        }
        if let failure { throw failure }
    }

    private static func flushesBefore(_ entry: LogWritesEntry) -> Bool {
        entry.flags.contains(.flush)
    }
    private static func flushesAfter(_ entry: LogWritesEntry) -> Bool {
        entry.flags.contains(.fua) && (entry.sectorCount > 0 || !entry.flags.contains(.flush))
    }

    private func steps(
        of entry: LogWritesEntry, _ number: UInt64, _ dataOffset: UInt64,
        _ body: (LogWritesStep) throws -> Void
    ) throws {
        let sectorBytes = UInt64(head.sectorBytes)
        let offset = entry.sector * sectorBytes
        let bytes = entry.sectorCount * sectorBytes
        if Self.flushesBefore(entry) { try body(.flush) }
        if entry.flags.contains(.discard) {
            if bytes > 0 { try body(.discard(offset: offset, count: bytes)) }
        } else {
            var done: UInt64 = 0
            while done < bytes {
                let count = Int(min(bytes - done, UInt64(Self.pieceBytes)))
                let piece = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count])
                guard try file.read(into: piece, at: dataOffset + done) == count else {
                    throw LogWritesFailure.log(.cutOff(entry: number, of: head.entryCount))
                }
                try body(.write(offset: offset + done, UnsafeRawBufferPointer(piece)))
                done += UInt64(count)
            }
        }
        if Self.flushesAfter(entry) { try body(.flush) }
        if entry.flags.contains(.mark) {
            let (name, isRenamed) = Self.markName(entry.name, number: number)
            try body(.mark(name, isRenamed: isRenamed))
        }
    }

    /// Walks over the headers; `body` gets each with the place of its data in the file.
    private func walk(
        _ body: (LogWritesEntry, UInt64) throws(LogWritesFailure) -> Void
    ) throws(LogWritesFailure) {
        let sectorBytes = UInt64(head.sectorBytes)
        let header = AlignedBuffer(count: head.sectorBytes)
        let bytes = UnsafeMutableRawBufferPointer(rebasing: header.bytes[..<head.sectorBytes])
        var position = sectorBytes
        var number: UInt64 = 0
        while number < head.entryCount {
            let cut = LogWritesFailure.log(.cutOff(entry: number, of: head.entryCount))
            guard position <= fileBytes, sectorBytes <= fileBytes - position else { throw cut }
            do throws(IOError) {
                try file.readZeroExtended(into: bytes, at: position)
            } catch { throw .io(error) }
            let entry: LogWritesEntry
            do throws(LogWritesError) {
                entry = try LogWritesEntry.decode(UnsafeRawBufferPointer(bytes), number: number)
            } catch { throw .log(error) }
            position += sectorBytes
            // Below 2^63 by the decoder.
            let data = entry.dataSectors * sectorBytes
            guard data <= fileBytes - position else { throw cut }
            try body(entry, position)
            position += data
            number += 1
        }
    }

    /// A name that a mark of a volume may have: UTF-8 without control characters, 1 to 255 bytes.
    /// What is not becomes so: bad bytes turn into U+FFFD, control characters into `_`, the rest
    /// behind 255 bytes goes, and an empty name is `entry-NUMBER`.
    package static func markName(_ bytes: [UInt8], number: UInt64) -> (
        name: String, isRenamed: Bool
    ) {
        // The kernel's own end is a C string.
        let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        var name = ""
        for scalar in text.unicodeScalars {
            let isControl = scalar.value < 32 || scalar.value == 127
            let next = isControl ? "_" : String(scalar)
            if name.utf8.count + next.utf8.count > RecordHeader.markNameBytesMax { break }
            name += next
        }
        if name.isEmpty { name = "entry-\(number)" }
        return (name, Array(name.utf8) != bytes)
    }
}
