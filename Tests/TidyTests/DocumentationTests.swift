// What the pages promise is there: linked files, tools, and verbs of the command.

import Foundation
import Testing

@Suite struct DocumentationTests {
    /// `[text](target)` with a target inside the repository.
    private static func links(_ file: SourceFile) -> [(line: Int, target: String)] {
        var found: [(Int, String)] = []
        for (index, line) in file.lines.enumerated() {
            var rest = line[...]
            while let start = rest.range(of: "](") {
                rest = rest[start.upperBound...]
                guard let end = rest.firstIndex(of: ")") else { break }
                let target = rest[..<end].split(separator: "#", omittingEmptySubsequences: false)[0]
                if !target.isEmpty && !target.contains("://") && !target.hasPrefix("mailto:") {
                    found.append((index + 1, String(target)))
                }
                rest = rest[end...]
            }
        }
        return found
    }

    @Test func linksResolve() {
        for file in SourceTree.markdown {
            let folder = file.path.split(separator: "/").dropLast().joined(separator: "/")
            for (line, target) in Self.links(file) {
                let path = folder.isEmpty ? target : "\(folder)/\(target)"
                if !SourceTree.exists(path) {
                    Issue.record("\(file.path):\(line): \(target) does not exist; mend the link")
                }
            }
        }
    }

    /// Words after `prefix` in code spans and fenced blocks of the page.
    private static func words(after prefix: String, in file: SourceFile) -> Set<String> {
        var found = Set<String>()
        for line in file.lines {
            var rest = line[...]
            while let start = rest.range(of: prefix) {
                let before =
                    start.lowerBound == line.startIndex
                    ? " " : line[line.index(before: start.lowerBound)]
                rest = rest[start.upperBound...]
                guard " `$([/".contains(before) || before == "\"" else { continue }
                let word = rest.prefix(while: { $0.isLetter || $0 == "-" || $0 == "_" })
                if !word.isEmpty { found.insert(String(word)) }
            }
        }
        return found
    }

    @Test func toolsInThePagesExist() {
        for file in SourceTree.markdown {
            for name in Self.words(after: "tools/", in: file).sorted() {
                if !SourceTree.isExecutable("tools/\(name)") {
                    Issue.record("\(file.path): tools/\(name) is not an executable file")
                }
            }
        }
    }

    /// Verbs as the command's sources name them.
    private static var verbs: Set<String> {
        var found: Set<String> = ["help"]
        for file in SourceTree.sources where file.room == "logdisk" {
            for line in file.lines {
                guard let start = line.range(of: "commandName: \"") else { continue }
                found.insert(String(line[start.upperBound...].prefix(while: { $0 != "\"" })))
            }
        }
        return found
    }

    /// In the README a command stands at the start of a line of a fenced block, or of a code span.
    @Test func verbsInTheReadmeExist() {
        guard let readme = SourceTree.files.first(where: { $0.path == "README.md" }) else { return }
        var isFenced = false
        var used = Set<String>()
        for line in readme.lines {
            if line.hasPrefix("```") {
                isFenced.toggle()
                continue
            }
            let spans = line.split(separator: "`", omittingEmptySubsequences: false)
                .enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            for text in isFenced ? [line[...]] : spans {
                var words = text.split(separator: " ")
                while ["$", "#", "sudo"].contains(words.first) { words.removeFirst() }
                if words.count > 1, words[0] == "logdisk" { used.insert(String(words[1])) }
            }
        }
        let names = used.filter { $0.allSatisfy { $0.isLowercase || $0 == "-" } && $0.first != "-" }
        for verb in names.subtracting(Self.verbs).sorted() {
            Issue.record("README.md: `logdisk \(verb)` is no command of Sources/logdisk")
        }
    }

    @Test func theFrameIsComplete() {
        let needed = [
            "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", ".swift-format",
            ".editorconfig", ".gitignore", "packaging/logdisk@.service", "docs/architecture.md",
            "docs/durability.md", "docs/format.md", "docs/glossary.md", "docs/operations.md",
            "docs/requirements.md",
        ]
        for path in needed where !SourceTree.exists(path) { Issue.record("\(path) is missing") }
        let tools = ["setup", "quickstart", "test", "simulate", "bench", "install"]
        for path in tools.map({ "tools/\($0)" }) + [".ci/run"] {
            #expect(SourceTree.isExecutable(path), "\(path) is not executable")
        }
    }
}
