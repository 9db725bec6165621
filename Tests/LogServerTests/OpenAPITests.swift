// The description that is served is the one in docs/.

import Foundation
import ServerAPI
import Testing

@Suite struct OpenAPITests {
    private static var page: String? {
        var folder = URL(fileURLWithPath: #filePath)
        for _ in 0..<3 { folder.deleteLastPathComponent() }
        return try? String(
            contentsOf: folder.appendingPathComponent("docs/openapi.yaml"), encoding: .utf8)
    }

    @Test func theServedTextIsThePage() throws {
        let page = try #require(Self.page)
        let server = try TestServer()
        let reply = try server.client("").send("GET", "/openapi.yaml")
        #expect(reply.fields["content-type"] == "application/yaml")
        let served = String(decoding: reply.body, as: UTF8.self)
        let pairs = zip(
            page.split(separator: "\n", omittingEmptySubsequences: false),
            served.split(separator: "\n", omittingEmptySubsequences: false))
        let differing = pairs.enumerated().first { $0.element.0 != $0.element.1 }
        #expect(
            served == page,
            """
            docs/openapi.yaml and Sources/LogServer/OpenAPI*.swift differ at line \
            \((differing?.offset ?? -2) + 1): \(String(describing: differing?.element))
            """)
    }

    @Test func allCodesAreTold() throws {
        let page = try #require(Self.page)
        for code in ErrorReply.Code.allCases {
            #expect(page.contains(code.rawValue), "\(code.rawValue)")
        }
    }
}
