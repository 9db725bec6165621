// Lint as a test: the whole repository against every rule, and every rule against a sample that
// breaks it. After TigerBeetle's tidy.zig.

import Testing

private func expectNone(
    _ files: [SourceFile], _ rule: (SourceFile) -> [Violation],
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(!files.isEmpty, "the repository was not found", sourceLocation: sourceLocation)
    for violation in files.flatMap(rule) {
        Issue.record("\(violation)", sourceLocation: sourceLocation)
    }
}

@Suite struct TidyTests {
    @Test func roomsImportOneWay() { expectNone(SourceTree.sources, Rules.importsOnlyAllowed) }
    @Test func onlyDiskIOWrites() { expectNone(SourceTree.sources, Rules.onlyDiskIOWrites) }
    @Test func forbiddenCalls() { expectNone(SourceTree.swift, Rules.forbiddenCalls) }
    @Test func hotRoomsAreSynchronous() {
        expectNone(SourceTree.sources, Rules.hotRoomsAreSynchronous)
    }
    @Test func nothingIsLeftUnfinished() { expectNone(SourceTree.files, Rules.unfinishedNotes) }
    @Test func filesSayWhatTheyAre() { expectNone(SourceTree.files, Rules.headComment) }
    @Test func uncheckedIsExplained() { expectNone(SourceTree.swift, Rules.uncheckedIsExplained) }
    @Test func linesFit() { expectNone(SourceTree.files, Rules.lineLength) }
    @Test func filesAreShort() { expectNone(SourceTree.files, Rules.fileLength) }
    @Test func functionsAreShort() { expectNone(SourceTree.swift, Rules.functionLength) }
    @Test func nothingOfOneMachine() { expectNone(SourceTree.files, Rules.machinePaths) }
}

/// Each rule finds what it is for, and leaves its neighbour in peace.
@Suite struct RuleTests {
    private func count(
        _ rule: (SourceFile) -> [Violation], _ path: String, _ text: String
    ) -> Int { rule(SourceFile(path: path, text: text)).count }

    @Test func imports() {
        let rule = Rules.importsOnlyAllowed
        #expect(count(rule, "Sources/BlockModel/A.swift", "import DiskIO\n") == 1)
        #expect(count(rule, "Sources/WriteLog/A.swift", "import History\n") == 1)
        #expect(count(rule, "Sources/WriteLog/A.swift", "public import struct CFuse.x\n") == 1)
        #expect(count(rule, "Sources/WriteLog/A.swift", "@preconcurrency import DiskIO\n") == 0)
        #expect(count(rule, "Sources/FuseMount/A.swift", "import CFuse\n    import Glibc\n") == 0)
        #expect(count(rule, "Sources/Cellar/A.swift", "") == 1)
    }

    @Test func calls() {
        let rule = Rules.onlyDiskIOWrites
        #expect(count(rule, "Sources/WriteLog/A.swift", "_ = Glibc.fsync(1)\nfdatasync(2)") == 2)
        #expect(count(rule, "Sources/WriteLog/A.swift", "log.fsync(1)\nfunc fsync() {}") == 0)
        #expect(count(rule, "Sources/WriteLog/A.swift", "// fsync(1)\nmyfsync(1)") == 0)
        #expect(count(rule, "Sources/DiskIO/A.swift", "fsync(1)") == 0)
        let words = ["try" + "! f()", "x as" + "! Int", "fatal" + "Error()", "print(1)"]
        for word in words {
            #expect(count(Rules.forbiddenCalls, "Sources/WriteLog/A.swift", word) == 1, "\(word)")
        }
        #expect(count(Rules.forbiddenCalls, "Sources/logdisk/A.swift", "print(1)") == 0)
        let hot = "Sources/WriteLog/A.swift"
        #expect(count(Rules.hotRoomsAreSynchronous, hot, "await x()\nTask { }\nactor A {") == 3)
    }

    @Test func comments() {
        #expect(count(Rules.unfinishedNotes, "a.md", "TO" + "DO: x\nmktemp aXXXXXX") == 1)
        #expect(count(Rules.headComment, "Sources/A/a.swift", "import B\n// late") == 1)
        #expect(count(Rules.headComment, "tools/x", "#!/bin/sh\nset -e\n") == 1)
        #expect(count(Rules.headComment, "tools/x", "#!/bin/sh\n# What.\n") == 0)
        let bare = "final class A: @unchecked Sendable {\n}\n"
        #expect(count(Rules.uncheckedIsExplained, "Sources/A/a.swift", bare) == 1)
        let good = "final class A: @unchecked Sendable {\n    // @unchecked: no state.\n}\n"
        #expect(count(Rules.uncheckedIsExplained, "Sources/A/a.swift", good) == 0)
    }

    @Test func sizes() {
        let long = String(repeating: "x", count: 101)
        #expect(count(Rules.lineLength, "a.swift", long + "\n" + long.dropLast()) == 1)
        #expect(count(Rules.fileLength, "a.c", String(repeating: "//\n", count: 401)) == 1)
        func function(_ lines: Int) -> String {
            "    func f() {\n" + String(repeating: "        x()\n", count: lines - 2) + "    }\n"
        }
        #expect(count(Rules.functionLength, "a.swift", function(70) + function(70)) == 0)
        #expect(count(Rules.functionLength, "a.swift", function(3) + function(71)) == 1)
    }

    @Test func machines() {
        #expect(count(Rules.machinePaths, "README.md", "cd /work/x\n") == 1)
        #expect(count(Rules.machinePaths, "README.md", "cd work\n") == 0)
    }
}
