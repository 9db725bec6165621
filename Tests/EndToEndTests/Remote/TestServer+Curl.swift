// A client that is nothing but curl: what the program's own client says to the server is told apart
// from what the interface promises.

import Foundation
import Testing

extension TestServer {
    /// What the server said.
    struct Answer {
        var status: Int
        var body: [String: Any]
        var code: String { body["code"] as? String ?? "" }
        var head: [String: Any]? { body["head"] as? [String: Any] }
    }

    func call(
        _ method: String, _ path: String, json: [String: Any]? = nil, file: String? = nil,
        headers: [String] = []
    ) throws -> Answer {
        let secret = try String(contentsOfFile: token, encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        var words = ["curl", "-sS", "-X", method, "-w", "\n%{http_code}"]
        for header in headers + ["Authorization: Bearer \(secret)"] { words += ["-H", header] }
        if let json {
            let data = try JSONSerialization.data(withJSONObject: json)
            words += ["--data-binary", String(decoding: data, as: UTF8.self)]
        }
        if let file { words += ["--data-binary", "@\(file)"] }
        let outcome = try scratch.start(words + [url + "/v1/volumes" + path], input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
        let lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: true)
        let status = try #require(lines.last.flatMap { Int($0) }, "\(outcome)")
        let text = lines.dropLast().joined(separator: "\n")
        let body = try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
        return Answer(status: status, body: body ?? [:])
    }

    /// Where a volume stands.
    func state(_ name: String) throws -> Answer { try call("GET", "/\(name)") }

    /// Sends what the server does not have of the segments of the volume in `folder`, as `writer`.
    /// Returns the first answer that is no success; nil when all is there.
    func ship(_ folder: String, as name: String, writer: String) throws -> Answer? {
        let who = ["Logdisk-Writer: \(writer)"]
        var answer = try state(name)
        if answer.status == 404 {
            answer = try call(
                "PUT", "/\(name)",
                json: try request(folder, writer: writer), headers: who)
            guard answer.status == 200 || answer.status == 201 else { return answer }
        }
        var head = answer.head
        let names = try FileManager.default.contentsOfDirectory(atPath: folder + "/segments")
        // A base snapshot begins the history; later ones are not needed here.
        let base = names.filter { $0.contains("snapshot") }.min()
        for segment in ([base].compactMap { $0 } + names.filter { $0.contains(".log.") }.sorted()) {
            let last = try #require(segment.split(separator: ".").first)
                .split(separator: "-").last.flatMap { UInt64($0) }
            if let known = head?["lsn"] as? UInt64 ?? (head?["lsn"] as? Int).map(UInt64.init),
                try #require(last) <= known
            {
                continue
            }
            let done = try send("\(folder)/segments/\(segment)", segment, to: name, head, who)
            guard done.status == 200 || done.status == 201 else { return done }
            head = done.head
        }
        return nil
    }

    private func request(_ folder: String, writer: String) throws -> [String: Any] {
        let shown = try scratch.run(
            Machine.logdisk, "inspect", folder + "/superblock", "--json"
        ).output
        let whole = try JSONSerialization.jsonObject(with: Data(shown.utf8)) as? [String: Any]
        let slot = try #require((whole?["parts"] as? [[String: Any]])?.last)
        return [
            "uuid": try #require(slot["volume"]), "size_bytes": try #require(slot["size_bytes"]),
            "writer": writer, "host": "test", "sealed": false,
        ]
    }

    private func send(
        _ file: String, _ segment: String, to name: String, _ head: [String: Any]?,
        _ who: [String]
    ) throws -> Answer {
        let upload = "/\(name)/uploads/test-\(UInt32.random(in: 0 ... .max))"
        let type = "Content-Type: application/octet-stream"
        let sent = try call(
            "PATCH", upload, file: file, headers: who + ["Upload-Offset: 0", type])
        guard sent.status == 200 || sent.status == 201 else { return sent }
        let attributes = try FileManager.default.attributesOfItem(atPath: file)
        var commit: [String: Any] = [
            "name": segment, "bytes": try #require(attributes[.size] as? Int),
            "sha256": try digest(scratch, file), "gap": false,
        ]
        if !segment.contains("snapshot"), let digest = head?["digest"] as? String {
            commit["after"] = digest
        }
        return try call("POST", upload, json: commit, headers: who)
    }
}
