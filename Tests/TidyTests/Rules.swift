// The rules that the code is held to, as functions from a file to what is wrong with it. Each
// message says what to do instead.

import Foundation

/// One broken rule at one line (from 1).
struct Violation: Equatable, CustomStringConvertible {
    var path: String
    var line: Int
    var message: String
    var description: String { "\(path):\(line): \(message)" }
}

enum Rules {
    // MARK: Rooms

    /// Which modules each room may import, besides `Glibc` and `Synchronization`. One way only:
    /// a room never imports the one before it on the way of a write (docs/architecture.md).
    static let imports: [String: Set<String>] = [
        "BlockModel": [],
        "DiskIO": ["CLinux"],
        "LogFormat": ["BlockModel", "CLinux", "CLZ4", "Crypto"],
        "WriteLog": ["BlockModel", "DiskIO", "LogFormat", "CLinux"],
        "ProtectedVolume": ["BlockModel", "DiskIO", "LogFormat", "WriteLog", "CLinux"],
        "History": ["ServerAPI", "BlockModel", "DiskIO", "LogFormat", "CLinux", "Crypto"],
        "FuseMount": ["BlockModel", "CFuse", "CLinux"],
        "CommandText": [],
        "ServerAPI": [],
        "LogServer": [
            "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "Crypto", "Logging",
            "HummingbirdCore", "HTTPTypes", "NIOCore", "NIOHTTP1", "NIOHTTPTypes",
            "NIOHTTPTypesHTTP1", "NIOPosix", "NIOSSL",
            "Foundation",
        ],
        "Shipping": [
            "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "CLinux", "Crypto",
            "Logging", "AsyncHTTPClient", "NIOCore", "NIOHTTP1", "NIOPosix", "NIOSSL",
            "Foundation",
        ],
        "ObjectStorage": [
            "ServerAPI", "BlockModel", "DiskIO", "LogFormat", "History", "Shipping", "Crypto",
            "Logging", "AsyncHTTPClient", "NIOCore", "NIOHTTP1", "NIOPosix", "NIOSSL",
            "Foundation",
        ],
        "Spread": ["CommandText", "DiskIO", "CLinux", "Crypto", "Foundation"],
        "Offsite": [
            "ServerAPI", "Shipping", "ObjectStorage", "Spread", "DiskIO", "CLinux", "Crypto",
            "Foundation",
        ],
        "logdisk": [
            "CommandText", "BlockModel", "DiskIO", "LogFormat", "WriteLog", "ProtectedVolume",
            "History", "ServerAPI", "LogServer", "Shipping", "ObjectStorage", "Spread",
            "Offsite", "FuseMount", "CLinux", "ArgumentParser", "Logging", "Hummingbird",
            "HummingbirdCore", "AsyncHTTPClient", "NIOCore", "NIOPosix", "HTTPTypes", "Foundation",
            "FoundationEssentials", "Dispatch",
        ],
    ]
    private static let everywhere: Set<String> = ["Glibc", "Synchronization"]

    static func importsOnlyAllowed(_ file: SourceFile) -> [Violation] {
        guard file.isSwift, let room = file.room else { return [] }
        guard let allowed = imports[room] else {
            return [
                Violation(
                    path: file.path, line: 1,
                    message: "room \(room) is not in the table of rooms; add it to Rules.imports"
                        + " and docs/architecture.md")
            ]
        }
        return violations(file) { line in
            var words = line.split(separator: " ").filter { !$0.hasPrefix("@") }
            while ["public", "package", "internal", "private", "fileprivate"].contains(words.first)
            {
                words.removeFirst()
            }
            guard words.count > 1, words[0] == "import" else { return nil }
            // `import struct Module.Type`
            let name = words.last?.split(separator: ".").first.map(String.init) ?? ""
            if allowed.contains(name) || everywhere.contains(name) { return nil }
            return "\(room) may not import \(name); move the code to a room that may"
                + " (\(imports.filter { $0.value.contains(name) }.keys.sorted()))"
        }
    }

    // MARK: Calls

    private static let diskCalls = [
        "pwrite", "pwritev", "pwritev2", "fdatasync", "fsync", "ftruncate", "fallocate",
        "posix_fallocate", "sync_file_range", "clinux_pwritev", "clinux_fallocate",
        "clinux_start_writeback", "clinux_clone_file", "clinux_block_discard",
    ]

    /// Only DiskIO (and the C below it) changes files.
    static func onlyDiskIOWrites(_ file: SourceFile) -> [Violation] {
        guard file.isSwift, let room = file.room, room != "DiskIO" else { return [] }
        return violations(file) { line in
            for call in diskCalls where isCalled(call, in: line) {
                return "\(call) belongs to DiskIO; use a StorageFile"
            }
            let makesFile = line.contains("O_CREAT") || line.contains("O_TRUNC")
            // A command may write a log of its own; the mount looks at other programs' flags.
            if makesFile && room != "logdisk" && room != "FuseMount" {
                return "files are created by DiskIO; use Storage.open"
            }
            return nil
        }
    }

    /// What has a better replacement everywhere.
    static func forbiddenCalls(_ file: SourceFile) -> [Violation] {
        guard file.isSwift, file.path.hasPrefix("Sources/") || file.path.hasPrefix("Tests/") else {
            return []
        }
        return violations(file) { line in
            if line.contains("try" + "! ") { return "trapping try: throw, or handle the error" }
            if line.contains(" as" + "! ") { return "trapping cast: use `as?` and handle nil" }
            if isCalled("fatal" + "Error", in: line) {
                return "use preconditionFailure with a reason (bad code), or throw (bad input)"
            }
            if file.room != nil, file.room != "logdisk", isCalled("print", in: line) {
                return "only commands print; return values, throw errors, or log"
            }
            return nil
        }
    }

    /// The rooms on the way of a write own their threads.
    static func hotRoomsAreSynchronous(_ file: SourceFile) -> [Violation] {
        let hot = ["BlockModel", "DiskIO", "LogFormat", "WriteLog", "ProtectedVolume", "FuseMount"]
        guard file.isSwift, let room = file.room, hot.contains(room) else { return [] }
        return violations(file) { line in
            let isAsync =
                line.contains("await ") || line.contains(" async ") || line.contains("Task {")
                || line.contains("actor ") && line.contains("{")
            return isAsync ? "no tasks and actors in \(room); use a thread and a futex" : nil
        }
    }

    // MARK: Comments

    static func unfinishedNotes(_ file: SourceFile) -> [Violation] {
        // Written apart, so that this file passes its own rule.
        let words = ["TO" + "DO", "FIX" + "ME", "X" + "XX"]
        var found: [Violation] = []
        for (index, line) in file.lines.enumerated() {
            for word in words where containsWord(word, in: line) {
                found.append(
                    Violation(
                        path: file.path, line: index + 1,
                        message: "\(word): do it now, or open an issue and name no debt here"))
            }
        }
        return found
    }

    static func headComment(_ file: SourceFile) -> [Violation] {
        let first = file.lines.first(where: { !$0.isEmpty }) ?? ""
        let second = file.lines.count > 1 ? file.lines[1] : ""
        let isScript = first.hasPrefix("#!")
        let isCode = file.isSwift || file.isC
        guard isCode || isScript else { return [] }
        if isScript ? second.hasPrefix("# ") : first.hasPrefix("//") { return [] }
        return [
            Violation(
                path: file.path, line: 1,
                message: "begin with a comment: what this file is, why, what it is not, threads")
        ]
    }

    /// Promises to the compiler stand beside their reason.
    static func uncheckedIsExplained(_ file: SourceFile) -> [Violation] {
        guard file.isSwift, !file.path.hasPrefix("Tests/TidyTests/") else { return [] }
        var found: [Violation] = []
        for (index, line) in file.lines.enumerated() {
            let code = SourceFile.code(line)
            guard code.contains("@unchecked Sendable") || code.contains("nonisolated(unsafe)")
            else { continue }
            let near = file.lines[max(0, index - 4)...min(file.lines.count - 1, index + 4)]
            if !near.contains(where: {
                $0.contains("// @unchecked:") || $0.contains("@unchecked: ")
            }) {
                found.append(
                    Violation(
                        path: file.path, line: index + 1,
                        message: "say beside it, after `// @unchecked:`, why this is safe"))
            }
        }
        return found
    }

    // MARK: Size

    static let columnsMax = 100
    static let fileLinesMax = 400
    static let functionLinesMax = 70

    static func lineLength(_ file: SourceFile) -> [Violation] {
        guard file.isSwift || file.isC else { return [] }
        return file.lines.enumerated().compactMap { index, line in
            line.count <= columnsMax
                ? nil
                : Violation(
                    path: file.path, line: index + 1,
                    message: "\(line.count) columns; break at \(columnsMax) (swift format)")
        }
    }

    static func fileLength(_ file: SourceFile) -> [Violation] {
        guard file.isSwift || file.isC, file.lines.count > fileLinesMax else { return [] }
        return [
            Violation(
                path: file.path, line: fileLinesMax,
                message: "\(file.lines.count) lines; move a verb to Type+Verb.swift")
        ]
    }

    /// Formatted code closes a function with a brace below its first letter.
    static func functionLength(_ file: SourceFile) -> [Violation] {
        guard file.isSwift else { return [] }
        var found: [Violation] = []
        var start: (index: Int, closing: String)?
        for (index, line) in file.lines.enumerated() {
            if let open = start {
                guard line == open.closing else { continue }
                let count = index - open.index + 1
                if count > functionLinesMax {
                    found.append(
                        Violation(
                            path: file.path, line: open.index + 1,
                            message: "a function of \(count) lines; split it by what it decides"))
                }
                start = nil
            } else if isFunctionStart(line) {
                start = (index, String(line.prefix(while: { $0 == " " })) + "}")
                if line.hasSuffix("}") { start = nil }
            }
        }
        return found
    }

    private static func isFunctionStart(_ line: String) -> Bool {
        let code = SourceFile.code(line)
        if code.contains("protocol ") { return false }
        return containsWord("func", in: code) || code.contains(" init(") || code.contains(" init?(")
            || code.hasSuffix(" deinit {")
    }

    // MARK: What a clone elsewhere would trip over

    static func machinePaths(_ file: SourceFile) -> [Violation] {
        if file.path.hasPrefix("Tests/TidyTests/") { return [] }
        let signs: [(sign: String, message: String)] = [
            ("/work/", "a path of one machine; make it relative to the repository"),
            ("/home/", "a path of one machine; use $HOME or a relative path"),
            ("/root/", "a path of one machine; use $HOME or a relative path"),
            ("artifactory", "a private registry; name the public source"),
            (".internal/", "a private host; name the public source"),
            (".corp.", "a private host; name the public source"),
        ]
        var found: [Violation] = []
        for (index, line) in file.lines.enumerated() {
            for (sign, message) in signs where line.contains(sign) {
                found.append(Violation(path: file.path, line: index + 1, message: message))
            }
        }
        return found
    }
}
