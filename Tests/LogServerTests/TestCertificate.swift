// Two self-signed certificates for localhost, for tests only; their keys protect nothing.

import Foundation

/// A certificate and its key, PEM.
struct TestCertificate {
    var chain: String
    var key: String

    /// Writes both into `folder` as cert.pem and key.pem.
    func write(to folder: String) throws {
        try chain.write(toFile: folder + "/cert.pem", atomically: true, encoding: .utf8)
        try key.write(toFile: folder + "/key.pem", atomically: true, encoding: .utf8)
    }

    static let first = TestCertificate(
        chain: """
            -----BEGIN CERTIFICATE-----
            MIIBkjCCATmgAwIBAgIUSyCR8laGLNW2dAI24Dq0UWcRp80wCgYIKoZIzj0EAwIw
            EDEOMAwGA1UEAwwFdGVzdDEwIBcNMjYxMTIxMjExNjIyWhgPMjEyNjEwMjgyMTE2
            MjJaMBAxDjAMBgNVBAMMBXRlc3QxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
            YAQTlSh0+bd078uMg5bOBD37vF+HQgh2SpHHEF1sH9r2YbkbR2m0b9Nd4YRadKvI
            G7HI+AUABEqnOG3CpQwynaNvMG0wHQYDVR0OBBYEFDPfDN8YRYzqUZun6BIs5+RX
            QdI3MB8GA1UdIwQYMBaAFDPfDN8YRYzqUZun6BIs5+RXQdI3MA8GA1UdEwEB/wQF
            MAMBAf8wGgYDVR0RBBMwEYcEfwAAAYIJbG9jYWxob3N0MAoGCCqGSM49BAMCA0cA
            MEQCIDJHshfuqut40k+z0KHr/AjFK7/IZjYYH1cUo/U2sbKgAiBbmMCeExbE/5a0
            xlNGnLPVZk8uetAcC06wo499LiPUqA==
            -----END CERTIFICATE-----
            """,
        key: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghkiiITUAv7cZ4nQs
            /U+ITe9N5j+8DLMIpvRRX83HQAihRANCAARgBBOVKHT5t3Tvy4yDls4EPfu8X4dC
            CHZKkccQXWwf2vZhuRtHabRv013hhFp0q8gbscj4BQAESqc4bcKlDDKd
            -----END PRIVATE KEY-----
            """)
    static let second = TestCertificate(
        chain: """
            -----BEGIN CERTIFICATE-----
            MIIBkzCCATmgAwIBAgIUWlA+hvJI/OUwwDuFaP2Pw+FPc2wwCgYIKoZIzj0EAwIw
            EDEOMAwGA1UEAwwFdGVzdDIwIBcNMjYxMTIxMjExNjIzWhgPMjEyNjEwMjgyMTE2
            MjNaMBAxDjAMBgNVBAMMBXRlc3QyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
            +NaqTXh2u99Z/wREGhv9gm9B3YBuwrIi2/2xYGBNDNx+UzRcB7Gc4EvbVmx5ahjf
            yhOKw5IfABDKlSY5djjvKqNvMG0wHQYDVR0OBBYEFF0n+k0r2EkzdmBHuQtBvjAS
            O2hJMB8GA1UdIwQYMBaAFF0n+k0r2EkzdmBHuQtBvjASO2hJMA8GA1UdEwEB/wQF
            MAMBAf8wGgYDVR0RBBMwEYcEfwAAAYIJbG9jYWxob3N0MAoGCCqGSM49BAMCA0gA
            MEUCIFyX7KRpT+Mybdwi3eVAhjzF4e0FNbuXbS5nZhQsUWDLAiEArQQVs6FxEuiy
            lHe3AS0MNCmaI52ahRD1zFG5EVv/DHw=
            -----END CERTIFICATE-----
            """,
        key: """
            -----BEGIN PRIVATE KEY-----
            MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgz+70jqCR1Gw40P34
            rofD3gSUjnHC3ks5yHzepYuTLKuhRANCAAT41qpNeHa731n/BEQaG/2Cb0HdgG7C
            siLb/bFgYE0M3H5TNFwHsZzgS9tWbHlqGN/KE4rDkh8AEMqVJjl2OO8q
            -----END PRIVATE KEY-----
            """)
}
