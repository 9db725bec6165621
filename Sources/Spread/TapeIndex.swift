// What lies where on a tape, found by going over it once; and the small text blocks between items.
//
// A TapeBlock is text, then zeros up to 4096 bytes: `logdisk-spread KIND 1`, lines `key value`, and
// last `crc32c HEX` of all bytes before that line. Valid if the first line names a known kind and
// the checksum is right.

import CLinux
import DiskIO

struct TapeBlock {
    var kind: String
    var fields: [(String, String)]
    static let kinds = ["label", "journal", "manifest", "end"]

    func encoded() -> [UInt8] {
        var text = Array("logdisk-spread \(kind) 1\n".utf8)
        for (key, value) in fields { text += Array("\(key) \(value)\n".utf8) }
        let checksum = text.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
        text += Array("crc32c \(String(checksum, radix: 16))\n".utf8)
        return text + [UInt8](repeating: 0, count: SegmentHeader.unit - text.count)
    }

    init(kind: String, fields: [(String, String)]) { (self.kind, self.fields) = (kind, fields) }

    init?(decoding bytes: [UInt8]) {
        guard bytes.count == SegmentHeader.unit, let end = bytes.firstIndex(of: 0),
            let text = String(validating: bytes[..<end], as: UTF8.self)
        else { return nil }
        let lines = text.split(separator: "\n")
        let first = (lines.first ?? "").split(separator: " ")
        guard lines.count >= 2, first.count == 3, first[0] == "logdisk-spread", first[2] == "1",
            Self.kinds.contains(String(first[1]))
        else { return nil }
        kind = String(first[1])
        fields = []
        for line in lines.dropFirst().dropLast() {
            guard let blank = line.firstIndex(of: " ") else { return nil }
            fields.append((String(line[..<blank]), String(line[line.index(after: blank)...])))
        }
        // One text for one block, checksum and zeros included.
        guard encoded() == bytes else { return nil }
    }

    func value(_ key: String) -> String? { fields.first { $0.0 == key }?.1 }
    func number(_ key: String) -> Int? { value(key).flatMap { Int($0) } }
    func id(_ key: String) -> [UInt8]? {
        value(key).flatMap { [UInt8](hexText: $0) }.flatMap { $0.count == 16 ? $0 : nil }
    }
}

/// Records as what they mean.
struct TapeReader {
    enum Part {
        case block(TapeBlock)
        case header(SegmentHeader)
        case data([UInt8])
        case filemark
        case end
    }

    private let drive: TapeDrive
    private let buffer = AlignedBuffer(count: TapeDrive.recordBytesMax)

    init(_ drive: TapeDrive) { self.drive = drive }

    /// The next thing; with `rawBytes` a record is data, whatever it looks like.
    mutating func next(rawBytes: Bool = false) throws(IOError) -> Part {
        switch try drive.read(into: buffer.bytes) {
        case .end: return .end
        case .filemark: return .filemark
        case .record(let count):
            let bytes = Array(buffer.bytes[..<count])
            if rawBytes { return .data(bytes) }
            if let block = TapeBlock(decoding: bytes) { return .block(block) }
            if let header = SegmentHeader(decoding: bytes) { return .header(header) }
            return .data(bytes)
        }
    }

    /// So many bytes from the records that follow; nil where they end before.
    mutating func bytes(_ count: Int) throws(IOError) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count < count {
            guard case .data(let more) = try next(rawBytes: true) else { return nil }
            bytes += more
        }
        return bytes.count == count ? bytes : nil
    }
}

struct TapeIndex {
    struct Found {
        var name: String
        var id: [UInt8]
        var deviceID: [UInt8]
        var created: Int64
        var isComplete = false
        var remembered: [RememberedItem] = []
        /// Where each item's header is, by its number.
        var items: [UInt64: UInt64] = [:]
        var manifestAt: UInt64?
        /// Behind the last filemark of what counts.
        var resumeAt: UInt64
        var bytes: UInt64 = 0
    }
    private(set) var sets: [Found] = []
    /// Behind everything that is to stay.
    private(set) var end: UInt64 = 0

    init() {}

    /// Goes over the tape from its start. Stops at the first thing that is not as it should be.
    init(scanning drive: TapeDrive) throws(IOError) {
        try drive.rewind()
        var reader = TapeReader(drive)
        while true {
            let start = try drive.position()
            switch try reader.next() {
            case .filemark: end = try drive.position()
            case .header(let header):
                guard try item(header, start, &reader) else { return }
            case .block(let block):
                guard try self.block(block, start, drive, &reader) else { return }
            case .data, .end: return
            }
        }
    }

    private mutating func item(
        _ header: SegmentHeader, _ start: UInt64, _ reader: inout TapeReader
    ) throws(IOError) -> Bool {
        guard !sets.isEmpty, sets[sets.count - 1].id == header.setID else { return false }
        var left = header.size
        while left > 0 {
            guard case .data(let bytes) = try reader.next(rawBytes: true),
                bytes.count <= left
            else { return false }
            left -= UInt64(bytes.count)
        }
        guard case .header(let last) = try reader.next(), last.position == header.position else {
            return false
        }
        sets[sets.count - 1].items[header.position] = start
        sets[sets.count - 1].bytes += header.size + 2 * UInt64(SegmentHeader.unit)
        return true
    }

    private mutating func block(
        _ block: TapeBlock, _ start: UInt64, _ drive: TapeDrive, _ reader: inout TapeReader
    ) throws(IOError) -> Bool {
        if block.kind == "label" {
            guard let name = block.value("set").flatMap({ PercentText.decoded(Array($0.utf8)) }),
                let id = block.id("set-id"), let device = block.id("device-id"),
                let created = block.value("created").flatMap({ Int64($0) }),
                case .filemark = try reader.next()
            else { return false }
            end = try drive.position()
            sets.append(
                Found(
                    name: String(decoding: name, as: UTF8.self), id: id, deviceID: device,
                    created: created, resumeAt: end))
            return true
        }
        guard !sets.isEmpty else { return false }
        let last = sets.count - 1
        var payload: [UInt8] = []
        if block.kind != "end" {
            guard let count = block.number("bytes"), count >= 0,
                let bytes = try reader.bytes(count)
            else { return false }
            payload = bytes
        }
        guard case .filemark = try reader.next() else { return false }
        end = try drive.position()
        sets[last].bytes += UInt64(payload.count + SegmentHeader.unit)
        switch block.kind {
        case "journal":
            for item in Journal.decode(payload)?.items ?? [] { sets[last].remembered.append(item) }
            sets[last].resumeAt = end
        case "manifest": sets[last].manifestAt = start
        default: sets[last].isComplete = block.id("set-id") == sets[last].id
        }
        return true
    }
}
