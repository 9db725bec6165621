// The list that the planner takes: scanned from sources, or read as sizes and paths from a file.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import Spread

/// The sources of a command line; `plan` and `run` open them in the same way.
struct SourceArguments: ParsableArguments {
    @Argument(
        help: ArgumentHelp(
            "Folders, files, disks, vol:VOL@TARGET, log:VOL, id:SHA256@DIR.", valueName: "SOURCE"))
    var names: [String] = []

    @Flag(help: "Do not cross into other file systems.")
    var oneFileSystem = false

    /// Opens and scans `names`: those given, or those of a plan. Devices may lie in none of them.
    func scanned(
        _ names: [String], on specs: [DeviceSpec]
    ) throws(CommandFailure) -> ScannedSources {
        try SpreadPlaces.checkNesting(SpreadPlaces.paths(names), specs)
        let opened = try SpreadPlaces.open(names)
        Interruption.begin()
        var scanner = TreeScanner()
        scanner.staysOnFileSystem = oneFileSystem
        scanner.isCancelled = { Interruption.isRequested }
        let filled = scanner
        let scanned = try translating(names[0]) { try ScannedSources(opened, filled) }
        try Interruption.check()
        return scanned
    }
}

/// Sources to plan for, which may be a list alone.
struct PlanningSources: ParsableArguments {
    @OptionGroup var given: SourceArguments

    @Option(
        help: ArgumentHelp(
            "Plan without sources: read lines 'SIZE PATH' from a file, or - for standard input.",
            valueName: "FILE"))
    var sizesFrom: String?

    /// What is planned.
    struct Found {
        var list: SourceList
        /// Paths and reasons.
        var unreadable: [(path: String, reason: String)] = []
    }

    var names: [String] { given.names }

    func read(on specs: [DeviceSpec]) throws(CommandFailure) -> Found {
        if let sizesFrom {
            guard names.isEmpty else {
                throw CommandFailure(
                    .usage, names[0], "sources and --sizes-from together",
                    hint: "leave one of them out")
            }
            return Found(list: try SizeList.read(sizesFrom))
        }
        let scanned = try given.scanned(names, on: specs)
        return Found(
            list: scanned.list().list,
            unreadable: scanned.unreadable.map { source, missing in
                let path = Spread.PathText.text(missing.path)
                return (path.isEmpty ? names[source] : "\(names[source])/\(path)", missing.reason)
            })
    }
}

/// A list of sizes and paths, one a line, as `find -printf '%s %p\\n'` prints them.
enum SizeList {
    /// Reads a file, or standard input for "-".
    static func read(_ name: String) throws(CommandFailure) -> SourceList {
        let descriptor = name == "-" ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(name, errno) }
        defer { if name != "-" { close(descriptor) } }
        var parser = Parser(name)
        var info = stat()
        if fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG {
            parser.expect(byteCount: Int(info.st_size))
        }
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = buffer.withUnsafeMutableBytes {
                Foundation.read(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw failure(name, errno) }
            if count == 0 { break }
            try parser.take(buffer[..<count])
        }
        return try parser.finish()
    }

    private static func failure(_ name: String, _ code: Int32) -> CommandFailure {
        CommandFailure(
            .failed, name, "the list cannot be read", cause: String(cString: strerror(code)),
            hint: "--sizes-from takes a file of lines 'SIZE PATH'")
    }

    private struct Parser {
        private let name: String
        private var list = SourceList()
        private let source: Int
        private var pending: [UInt8] = []
        private var line = 0

        init(_ name: String) {
            self.name = name
            source = list.addSource(name)
        }

        /// A guess, so that the columns do not grow by doubling: lines of 40 bytes.
        mutating func expect(byteCount: Int) {
            list.reserve(byteCount / 40, pathByteCount: byteCount)
        }

        mutating func take(_ bytes: ArraySlice<UInt8>) throws(CommandFailure) {
            var rest = bytes
            while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                if pending.isEmpty {
                    try add(rest[..<end])
                } else {
                    pending += rest[..<end]
                    try add(pending[...])
                    pending.removeAll(keepingCapacity: true)
                }
                rest = rest[(end + 1)...]
            }
            pending += rest
        }

        mutating func finish() throws(CommandFailure) -> SourceList {
            if !pending.isEmpty { try add(pending[...]) }
            return list
        }

        private mutating func add(_ text: ArraySlice<UInt8>) throws(CommandFailure) {
            line += 1
            if text.isEmpty { return }
            var size: UInt64?
            var place = text.startIndex
            while place < text.endIndex, case let digit = text[place] &- 0x30, digit < 10 {
                let (high, overflow) = (size ?? 0).multipliedReportingOverflow(by: 10)
                let (sum, carry) = high.addingReportingOverflow(UInt64(digit))
                if overflow || carry { throw bad("a size above 2^64") }
                size = sum
                place += 1
            }
            guard let size, place < text.endIndex, text[place] == 0x20 || text[place] == 0x09
            else { throw bad("no size and path") }
            let path = text[(place + 1)...]
            if path.isEmpty || path.contains(0) { throw bad("no path") }
            if list.count == SourceList.countMax { throw bad("too many files") }
            list.add(source: source, path: path, size: size)
        }

        private func bad(_ reason: String) -> CommandFailure {
            CommandFailure(
                .usage, name, "line \(line) is not 'SIZE PATH'", cause: reason,
                hint: "for example: 4096 photos/1.jpg")
        }
    }
}
