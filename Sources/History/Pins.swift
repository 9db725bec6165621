// Marks that are never pruned: a small text file beside `segments`, replaced as a whole.
//
//     logdisk pins 1
//     1234 before-upgrade

import BlockModel
import DiskIO

/// The pins of one history. A value; one writer at a time.
public struct PinFile: Sendable {
    private static let magic = "logdisk pins 1"
    private static let name = "pins"

    private let storage: Storage
    private let directory: String

    /// Why the file cannot be used. Nothing may be pruned then.
    public struct Unreadable: Error, Hashable, Sendable, CustomStringConvertible {
        public var path: String
        public var description: String { "\(path) is not a list of pins" }
    }

    /// `directory` is the log's; the file need not be there.
    public init(storage: Storage, directory: String) {
        self.storage = storage
        self.directory = directory
    }

    public var path: String { "\(directory)/\(Self.name)" }

    /// All pins, in LSN order. Throws `Unreadable` or an IOError.
    public func pins() throws -> [MarkPin] {
        guard storage.exists(path) else { return [] }
        let text = String(decoding: try storage.contents(of: path), as: UTF8.self)
        let lines = text.split(separator: "\n")
        guard text.hasSuffix("\n"), lines.first == Self.magic[...] else {
            throw Unreadable(path: path)
        }
        return try lines.dropFirst().map { line in
            let parts = line.split(separator: " ", maxSplits: 1)
            guard parts.count == 2, let lsn = UInt64(parts[0]) else {
                throw Unreadable(path: path)
            }
            return MarkPin(name: String(parts[1]), lsn: LSN(lsn))
        }.sorted { ($0.lsn, $0.name) < ($1.lsn, $1.name) }
    }

    /// Pins durably; false when it is pinned already.
    public func add(_ pin: MarkPin) throws -> Bool {
        let known = try pins()
        if known.contains(pin) { return false }
        try write(known + [pin])
        return true
    }

    /// Takes the pins of that name away; returns them.
    public func remove(named name: String) throws -> [MarkPin] {
        let known = try pins()
        let gone = known.filter { $0.name == name }
        if !gone.isEmpty { try write(known.filter { $0.name != name }) }
        return gone
    }

    private func write(_ pins: [MarkPin]) throws {
        let text = ([Self.magic] + pins.map { "\($0.lsn) \($0.name)" }).map { $0 + "\n" }.joined()
        try Array(text.utf8).withUnsafeBytes {
            try storage.replace(Self.name, in: directory, with: $0)
        }
    }
}

/// A pinned mark.
public struct MarkPin: Hashable, Sendable {
    public var name: String
    public var lsn: LSN

    public init(name: String, lsn: LSN) {
        self.name = name
        self.lsn = lsn
    }
}
