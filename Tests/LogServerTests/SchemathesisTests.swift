// The server held against its own description by schemathesis (PyPI), which makes requests from
// it: good ones, bad ones, and sequences. tools/setup installs it below .build. Where it is not the
// test is skipped; with CI set in the environment it fails.

import Foundation
import Testing

@Suite struct SchemathesisTests {
    static let isCI = ProcessInfo.processInfo.environment["CI"].map { !$0.isEmpty } ?? false

    /// Where the program lies; nil: it is not installed.
    static let program: String? = {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["SCHEMATHESIS"] { return path }
        // The test program lies in .build/TRIPLE/release.
        let build = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let own = build.appendingPathComponent("schemathesis/bin").path
        let folders = [own] + (environment["PATH"] ?? "").split(separator: ":").map { "\($0)" }
        return folders.map { "\($0)/schemathesis" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    @Test(
        .enabled(
            if: program != nil || isCI,
            "schemathesis is not installed: tools/setup --tests, or set SCHEMATHESIS"))
    func theServerIsAsDescribed() throws {
        let server = try TestServer()
        try server.client().make("db1")
        let process = Process()
        // Its work is bounded by examples; the time only ends one that hangs.
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        // To be busy for a while (another writes the set, say) is an answer of the description.
        let config = FileManager.default.temporaryDirectory
            .appendingPathComponent("schemathesis-\(UUID()).toml")
        let lines = [
            "[checks.not_a_server_error]",
            #"expected-statuses = ["2xx", "3xx", "4xx", "503"]"#,
        ]
        try Data(lines.joined(separator: "\n").utf8).write(to: config)
        defer { try? FileManager.default.removeItem(at: config) }
        let url = "http://127.0.0.1:\(server.port)"
        process.arguments = [
            "timeout", "300", try #require(Self.program), "--config-file", config.path, "run",
            "\(url)/openapi.yaml", "--url", url, "--max-examples", "40", "--seed", "1", "--header",
            "Authorization: Bearer \(server.token)", "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,"
                + "response_schema_conformance,response_headers_conformance,ignored_auth,"
                + "negative_data_rejection",
        ]
        process.currentDirectoryURL = FileManager.default.temporaryDirectory
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(text.suffix(6000))")
    }
}
