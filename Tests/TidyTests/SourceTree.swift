// The repository as text: which files there are, and their lines. Found from the place of this
// file, so the tests need no working folder.

import Foundation

/// One text file of the repository.
struct SourceFile: Sendable {
    /// Relative to the root, with `/`.
    var path: String
    var lines: [String]

    init(path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
    }

    var isSwift: Bool { path.hasSuffix(".swift") }
    var isC: Bool { path.hasSuffix(".c") || path.hasSuffix(".h") }
    var isMarkdown: Bool { path.hasSuffix(".md") }

    /// `Sources/<room>/…`; nil elsewhere.
    var room: String? {
        let parts = path.split(separator: "/")
        return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
    }

    /// A line without its comment. Good enough for code that keeps `//` out of strings, or uses
    /// it there only as part of a URL.
    static func code(_ line: String) -> Substring {
        let trimmed = line.drop(while: { $0 == " " })
        if trimmed.hasPrefix("//") { return "" }
        guard let comment = line.range(of: " //") else { return line[...] }
        return line[..<comment.lowerBound]
    }
}

enum SourceTree {
    static let root: URL = {
        var folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        while !FileManager.default.fileExists(
            atPath: folder.appendingPathComponent("Package.swift").path), folder.path != "/"
        {
            folder.deleteLastPathComponent()
        }
        return folder
    }()

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
    }

    static func isExecutable(_ path: String) -> Bool {
        FileManager.default.isExecutableFile(atPath: root.appendingPathComponent(path).path)
    }

    /// Every text file that belongs to the repository: not build output, not what git ignores.
    static let files: [SourceFile] = {
        let ignored: Set<String> = [".git", ".build", ".swiftpm", "man", "Package.resolved"]
        var found: [SourceFile] = []
        func walk(_ folder: String) {
            let url = folder.isEmpty ? root : root.appendingPathComponent(folder)
            let names = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
            for name in names.sorted() where !ignored.contains(name) {
                let path = folder.isEmpty ? name : "\(folder)/\(name)"
                var isFolder: ObjCBool = false
                let full = root.appendingPathComponent(path).path
                _ = FileManager.default.fileExists(atPath: full, isDirectory: &isFolder)
                if isFolder.boolValue {
                    walk(path)
                } else if let text = try? String(contentsOfFile: full, encoding: .utf8) {
                    found.append(SourceFile(path: path, text: text))
                }
            }
        }
        walk("")
        return found
    }()

    static var swift: [SourceFile] { files.filter { $0.isSwift && $0.path != "Package.swift" } }
    static var sources: [SourceFile] { files.filter { $0.room != nil } }
    static var markdown: [SourceFile] { files.filter(\.isMarkdown) }
}
