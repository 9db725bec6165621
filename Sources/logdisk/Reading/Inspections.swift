// The three kinds of files that `inspect` prints. All bytes are taken as possibly hostile: parsing
// is LogFormat's, and what it refuses is reported, never trusted.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import WriteLog

struct SuperblockInspection {
    private let path: String

    init(_ path: String) { self.path = path }

    func run(_ report: InspectionReport) throws {
        for (number, slot) in try SuperblockFile.slots(path).enumerated() {
            switch slot {
            case .success(let superblock): show(superblock, number, report)
            case .failure(.futureVersion(let version)):
                report.damage("slot \(number) has format version \(version), of a newer logdisk")
            case .failure(.damaged):
                report.damage("slot \(number) is not valid")
            }
        }
    }

    private func show(_ superblock: Superblock, _ number: Int, _ report: InspectionReport) {
        report.section(
            "superblock, slot \(number)",
            [
                ("generation", .number(superblock.generation)),
                ("volume", .text("\(superblock.volume)")),
                ("size_bytes", .number(superblock.volumeBytes)),
                ("state", .text(superblock.state == .ready ? "ready" : "being created")),
                ("closed_cleanly", .text(superblock.isClean ? "yes" : "no")),
                ("epoch", .number(superblock.epoch)),
                ("epoch_first_lsn", .number(superblock.epochFirstLSN.rawValue)),
                ("checkpoint_lsn", .number(superblock.checkpoint.lsn.rawValue)),
                ("checkpoint_time", .text(superblock.checkpoint.time)),
                ("durable_lsn", .number(superblock.durableLSN.rawValue)),
                ("created", .text(TimeText.rfc3339(superblock.createdWall))),
                ("wal_file_bytes", .number(superblock.walFileBytes)),
                ("wal_bytes_max", .number(superblock.walBytesMax)),
                ("ring_bytes", .number(superblock.ringBytes)),
                ("image", .text(superblock.imagePath)),
                ("log_directory", .text(superblock.logDirectory)),
            ])
    }
}

struct WALInspection {
    private let file: StorageFile

    init(_ file: StorageFile) { self.file = file }

    func run(_ report: InspectionReport) throws {
        let head = AlignedBuffer(count: WALFileHeader.byteCount)
        try file.readZeroExtended(into: head.bytes, at: 0)
        let header: WALFileHeader
        switch WALFileHeader.decode(UnsafeRawBufferPointer(head.bytes)) {
        case .success(let found): header = found
        case .failure(.futureVersion(let version)):
            return report.damage("format version \(version), of a newer logdisk")
        case .failure(.damaged):
            return report.damage("neither copy of the header is valid")
        }
        report.section(
            "WAL file",
            [
                ("volume", .text("\(header.volume)")), ("sequence", .number(header.sequence)),
                ("epoch", .number(header.epoch)),
                ("epoch_first_lsn", .number(header.epochFirstLSN.rawValue)),
                ("salt", .crc(header.salt)), ("file_bytes", .number(header.fileBytes)),
            ])
        let actual = try file.size()
        if actual < header.fileBytes {
            report.damage("the file has \(actual) bytes, not \(header.fileBytes)")
        }
        try showRecords(header, report)
    }

    private func showRecords(_ header: WALFileHeader, _ report: InspectionReport) throws {
        let window = AlignedBuffer(count: WALFileCursor.windowBytes)
        var cursor = WALFileCursor(file: file, header: header, window: window)
        var last: LSN?
        var offset = cursor.offset
        while let record = try cursor.next() {
            if let last, record.header.stamp.lsn != last.next {
                report.damage("lsn \(record.header.stamp.lsn) follows \(last)")
            }
            last = record.header.stamp.lsn
            report.item(Self.fields(record, offset))
            offset = cursor.offset
        }
        report.endItems("records; the next would begin at byte \(offset)")
        let next = last?.next ?? header.epochFirstLSN
        if let claimed = try cursor.claimedDurable(from: next, below: .max), claimed >= next {
            report.damage("a record behind the valid ones declares lsn \(claimed) durable")
        }
    }

    private static func fields(_ record: LogRecord, _ offset: UInt64) -> [(String, JSONValue)] {
        let header = record.header
        var fields: [(String, JSONValue)] = [
            ("lsn", .number(header.stamp.lsn.rawValue)), ("time", .text(header.stamp.time)),
            ("kind", .text("\(header.kind)")), ("at", .number(offset)),
        ]
        if header.kind.changesSectors {
            fields += [
                ("lba", .number(header.extent.start)), ("sectors", .number(header.extent.count)),
            ]
        }
        if header.kind == .write { fields.append(("crc32c", .crc(header.payloadCRC))) }
        if header.kind == .mark {
            fields.append(("name", .text(String(decoding: record.payload, as: UTF8.self))))
        }
        fields.append(("durable", .number(header.durableLSN.rawValue)))
        return fields
    }
}

struct SegmentInspection {
    private let file: StorageFile

    init(_ file: StorageFile) { self.file = file }

    func run(_ report: InspectionReport) throws {
        let size = try file.size()
        let name = file.path.split(separator: "/").last.flatMap { SegmentName(String($0)) }
        let unnamed = OneFileStore(file, name ?? .snapshot(.zero), size)
        let footer: SegmentFooter
        do throws(HistoryError) {
            footer = try SegmentReader.footer(of: unnamed.segment, in: unnamed)
        } catch {
            guard case .damaged(_, let why) = error else { throw error }
            showHeader(report)
            return report.damage("the footer is not valid: \(why)")
        }
        show(footer, report)
        let found = SegmentName(
            first: footer.header.first.lsn, last: footer.last.lsn, kind: footer.header.kind)
        if let name, name != found { report.damage("the name does not say what is in the file") }
        let store = OneFileStore(file, found, size)
        do throws(HistoryError) {
            try showIndex(try SegmentReader(store.segment, in: store), report)
        } catch {
            guard case .damaged(_, let why) = error else { throw error }
            return report.damage("\(why)")
        }
        try check(store, report)
    }

    /// Reads all of it and checks every checksum.
    private func check(_ store: OneFileStore, _ report: InspectionReport) throws {
        let verdicts = try HistoryVerifier(HistoryCatalogue(store: store)).run().segments
        for verdict in verdicts {
            if let reason = verdict.unusable { report.damage("\(reason)") }
            for damage in verdict.damages {
                let records = damage.first.map { ", lsn \($0) to \(damage.last ?? $0)" } ?? ""
                report.damage("\(damage.error)\(records)")
            }
        }
        if verdicts.allSatisfy(\.isSound) { report.section("all checksums are right", []) }
    }

    /// What the first bytes say, where the last ones cannot be used.
    private func showHeader(_ report: InspectionReport) {
        let memory = AlignedBuffer(count: SegmentFormat.headerBytes)
        let bytes = UnsafeMutableRawBufferPointer(
            start: memory.base, count: SegmentFormat.headerBytes)
        guard (try? file.readZeroExtended(into: bytes, at: 0)) != nil,
            let header = try? SegmentHeader.decode(UnsafeRawBufferPointer(bytes))
        else { return report.damage("the header is not valid") }
        report.section("segment", Self.fields(header))
    }

    private static func fields(_ header: SegmentHeader) -> [(String, JSONValue)] {
        [
            ("kind", .text(header.kind.word)), ("volume", .text("\(header.volume)")),
            ("size_bytes", .number(header.volumeBytes)), ("epoch", .number(header.epoch)),
            ("first_lsn", .number(header.first.lsn.rawValue)),
            ("first_time", .text(header.first.time)),
            ("block_bytes", .number(UInt64(header.blockBytes))),
            ("predecessor", .text("\(header.predecessor)")),
        ]
    }

    private func show(_ footer: SegmentFooter, _ report: InspectionReport) {
        report.section(
            "segment",
            Self.fields(footer.header) + [
                ("last_lsn", .number(footer.last.lsn.rawValue)),
                ("last_time", .text(footer.last.time)),
                ("entries", .number(footer.entryCount)),
                ("flushes", .number(UInt64(footer.flushCount))),
                ("marks", .number(UInt64(footer.markCount))),
                ("data_bytes", .number(footer.dataBytes)),
                ("data_bytes_stored", .number(footer.dataStoredBytes)),
                ("index_bytes", .number(footer.indexBytes)),
                ("index_bytes_stored", .number(footer.indexStoredBytes)),
                ("digest", .text("\(footer.digest)")),
            ])
    }

    private func showIndex(
        _ reader: SegmentReader, _ report: InspectionReport
    ) throws(HistoryError) {
        if reader.footer.header.kind == .snapshot {
            for extent in try reader.snapshotIndex().extents {
                report.item([
                    ("lba", .number(extent.extent.start)),
                    ("sectors", .number(extent.extent.count)),
                    ("data_at", .number(extent.dataOffset)),
                ])
            }
            return report.endItems("extents")
        }
        let index = try reader.recordIndex()
        for entry in index.entries {
            var fields: [(String, JSONValue)] = [
                ("lsn", .number(entry.stamp.lsn.rawValue)), ("time", .text(entry.stamp.time)),
                ("kind", .text("\(entry.kind)")),
            ]
            if entry.kind.changesSectors {
                fields += [
                    ("lba", .number(entry.extent.start)), ("sectors", .number(entry.extent.count)),
                ]
            }
            if entry.kind == .write { fields.append(("crc32c", .crc(entry.payloadCRC))) }
            if entry.kind == .mark { fields.append(("name", .text(index.name(of: entry)))) }
            report.item(fields)
        }
        report.endItems("records")
    }
}

/// One file as a store of one segment, read only.
private final class OneFileStore: SegmentStore {
    private let file: StorageFile
    let segment: StoredSegment

    init(_ file: StorageFile, _ name: SegmentName, _ byteCount: UInt64) {
        self.file = file
        segment = StoredSegment(name: name, byteCount: byteCount)
    }

    var label: String { file.path }

    func list() throws(StoreError) -> [StoredSegment] { [segment] }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let count: Int
        do throws(IOError) {
            count = try file.read(into: target, at: offset)
        } catch { throw StoreError(.read, file.path, .io(error)) }
        guard count == target.count else { throw StoreError(.read, file.path, .short) }
    }

    func upload() throws(StoreError) -> any SegmentUpload {
        throw StoreError(.put, file.path, .refused("read only"))
    }

    func delete(_ name: SegmentName) throws(StoreError) {
        throw StoreError(.delete, file.path, .refused("read only"))
    }
}
