// Measures replay against two plain ways of getting a volume back, on the same disk in one run:
//
//   overwritten 8 times   4 KiB writes all over the volume, 8 times its size in all; the rival does
//                         the records again one by one, in their order
//                         records again one by one, in their order; after it this history is
//                         thinned to the newest record of each sector, beside reading,
//                         decompressing and checking all of it once
//   written once          in address order and in random order; the rival is `cp` of the finished
//                         image to another file, with a sync
//
// Usage: ReplayBench FOLDER [MIB [ROUNDS]]. Needs 12 times MIB of room in FOLDER, which must be on
// the disk to be measured. Prints one line for each measurement: name, median seconds of each,
// ratio. Every result is compared with the image that the records make.

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat

/// Records of 4 KiB over a volume, made up as they are read.
final class MadeUpRecords: RecordSource {
    private let order: [UInt32]
    private var index = 0
    private let page = AlignedBuffer(count: 4096)

    init(order: [UInt32]) { self.order = order }

    static func fill(_ page: UnsafeMutableRawBufferPointer, block: UInt32, version: Int) {
        // Half noise, half text: compresses about as a file system does.
        var random = SeededRandom(seed: UInt64(block) << 20 | UInt64(version))
        for i in 0..<256 {
            page.storeBytes(of: random.next(), toByteOffset: i * 8, as: UInt64.self)
        }
        for i in 256..<512 {
            page.storeBytes(of: UInt64(block) &* 3, toByteOffset: i * 8, as: UInt64.self)
        }
    }

    func next() -> LogRecord? {
        guard index < order.count else { return nil }
        Self.fill(page.bytes, block: order[index], version: index)
        let bytes = UnsafeRawBufferPointer(page.bytes)
        index += 1
        return LogRecord(
            header: RecordHeader(
                stamp: Stamp(lsn: LSN(UInt64(index)), wallNanoseconds: Int64(index)), kind: .write,
                extent: Extent(start: UInt64(order[index - 1]) * 8, count: 8), payloadBytes: 4096,
                payloadCRC: Checksum.crc32c(bytes)), payload: bytes)
    }
}

struct Bench {
    let folder: String
    let storage = DiskStorage()
    let blocks: Int
    let rounds: Int
    let id = VolumeID(high: 1, low: 2)

    var identity: SegmentIdentity {
        SegmentIdentity(volume: id, volumeBytes: UInt64(blocks) * 4096, epoch: 1)
    }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    func run(_ name: String, order: [UInt32], against rival: String) throws {
        let directory = path("segments")
        try storage.createDirectory(directory)
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let store = DirectoryStore(storage: storage, directory: directory)
        _ = try SnapshotWriter(store: store, identity: identity).write(
            Empty(byteCount: identity.volumeBytes), at: .zero)
        try Archiver(store: store, identity: identity)
            .archive(from: MadeUpRecords(order: order), through: LSN(UInt64(order.count)))
        var (ours, theirs): ([Double], [Double]) = ([], [])
        try timed("image", into: &theirs) { try serial(store, to: path("image")) }
        theirs = []
        for _ in 0..<rounds {
            try dropCaches(directory)
            try timed("ours", into: &ours) {
                let history = try HistoryCatalogue(store: store)
                let view = try PointInTimeView(history, at: LSN(UInt64(order.count)))
                try Replay(view).write(toFile: path("ours"), in: storage)
            }
            if rival == "cp" {
                try dropCaches(path("image"))
                try timed("cp", into: &theirs) {
                    try spawn(
                        "/bin/sh", "-c",
                        "cp '\(path("image"))' '\(path("theirs"))' && sync '\(path("theirs"))'")
                }
            } else {
                try dropCaches(directory)
                try timed("serial", into: &theirs) { try serial(store, to: path("theirs")) }
            }
            try spawn("/usr/bin/cmp", path("ours"), path("image"))
            for name in ["ours", "theirs"] { try storage.remove(path(name)) }
        }
        try storage.remove(path("image"))
        if rival == "serial" { try thin(store, directory, records: order.count) }
        let (mine, other) = (median(ours), median(theirs))
        print(
            "\(name): replay \(format(mine)) s, \(rival) \(format(other)) s, "
                + "ratio \(format(other / mine))")
    }

    /// Once, as it leaves nothing to thin.
    private func thin(_ store: DirectoryStore, _ directory: String, records: Int) throws {
        var (reading, thinning): ([Double], [Double]) = ([], [])
        let logs = try store.list().filter { $0.name.kind == .log }
        let bytes = logs.reduce(0) { $0 + $1.byteCount }
        try dropCaches(directory)
        try timed("read", into: &reading) {
            for segment in logs {
                let reader = try SegmentReader(segment, in: store)
                let block = AlignedBuffer(count: reader.footer.header.blockBytes)
                for number in 0..<reader.table.count {
                    try reader.readBlock(number, into: block.bytes)
                }
            }
        }
        try dropCaches(directory)
        let rule = RetentionRule(try Ladder(parsing: "newest 1w"), now: Int64(records))
        try timed("thinning", into: &thinning) {
            _ = try Thinning(store: store, volume: id) { [] }.run(rule)
        }
        let ratio = format(reading[0] / thinning[0])
        print(
            "thinning: \(bytes >> 20) MiB in \(format(thinning[0])) s, "
                + "read in \(format(reading[0])) s, ratio \(ratio)")
    }

    /// The plain way: every record in its order.
    private func serial(_ store: DirectoryStore, to path: String) throws {
        let file = try storage.open(path, OpenOptions(.readWrite, creation: .exclusively))
        try file.truncate(to: identity.volumeBytes)
        for segment in try store.list() where segment.name.kind == .log {
            let reader = try SegmentReader(segment, in: store)
            let blockBytes = reader.footer.header.blockBytes
            let block = AlignedBuffer(count: blockBytes)
            var loaded = -1
            for entry in try reader.recordIndex().entries {
                let number = Int(entry.payloadOffset) / blockBytes
                if number != loaded {
                    try reader.readBlock(number, into: block.bytes)
                    loaded = number
                }
                let start = Int(entry.payloadOffset) % blockBytes
                try file.write(
                    UnsafeRawBufferPointer(rebasing: block.bytes[start..<start + 4096]),
                    at: entry.extent.byteOffset)
            }
        }
        try file.sync()
        file.close()
    }

    /// Makes the next read come from the disk.
    private func dropCaches(_ path: String) throws {
        try spawn(
            "/bin/sh", "-c",
            "find '\(path)' -type f -exec dd if={} iflag=nocache count=0 status=none ';'")
    }

    private func spawn(_ command: String, _ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: command)
        process.arguments = arguments
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw IOError(.read, ([command] + arguments).joined(separator: " "), 5)
        }
    }

    private func timed(_ what: String, into list: inout [Double], _ body: () throws -> Void) throws
    {
        let clock = ContinuousClock()
        let duration = try clock.measure(body)
        let (seconds, attoseconds) = duration.components
        list.append(Double(seconds) + Double(attoseconds) * 1e-18)
    }

    private func median(_ list: [Double]) -> Double { list.sorted()[list.count / 2] }
    private func format(_ value: Double) -> String { String(format: "%.2f", value) }
}

/// A volume without data.
final class Empty: SnapshotSource {
    let byteCount: UInt64
    init(byteCount: UInt64) { self.byteCount = byteCount }
    func nextData(from offset: UInt64) -> Range<UInt64>? { nil }
    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) {}
}

let arguments = CommandLine.arguments
guard arguments.count > 1 else {
    print("usage: ReplayBench FOLDER [MIB [ROUNDS]]")
    exit(64)
}
let mebibytes = arguments.count > 2 ? Int(arguments[2]) ?? 256 : 256
let bench = Bench(
    folder: arguments[1], blocks: mebibytes * 256,
    rounds: arguments.count > 3 ? Int(arguments[3]) ?? 3 : 3)
var random = SeededRandom(seed: 1)
let all = (0..<UInt32(bench.blocks)).map { $0 }
var eightTimes: [UInt32] = []
for _ in 0..<8 { eightTimes += all.shuffled(using: &random) }
try bench.run("overwritten 8 times", order: eightTimes, against: "serial")
try bench.run("written once, in order", order: all, against: "cp")
try bench.run("written once, shuffled", order: all.shuffled(using: &random), against: "cp")
