// The description of the interface, as it is served: the text of docs/openapi.yaml, line by line
// (sets of backups in OpenAPI+Backups.swift, the rest in OpenAPI+Components.swift). A test compares
// them; who changes one changes the other.

enum OpenAPI {
    static let text = paths + backups + components

    private static let paths = #"""
        openapi: 3.0.3
        info:
          title: logdisk log server
          version: "1"
          description: |
            History of volumes, kept for many computers: immutable segments (docs/format.md), sent
            by resumable uploads and read by range; and sets of backups (docs/spreading.md), whose
            files go up in the same way. HTTP/1.1 over TLS 1.2 or later.

            An upload's id is chosen by the client. Its bytes come in one or more PATCH requests,
            each at the offset where the upload stands; only a commit makes a segment of it,
            durably, once its digest, its format and its place in the chain are right. A commit that
            is sent again is answered as the first. A token (Authorization: Bearer) is for volumes
            and backup devices by pattern and allows to read, to append, or everything. 503 with
            Retry-After asks to wait.
        servers:
          - url: /
        security:
          - token: []
        paths:
          /v1/health:
            get:
              summary: Whether the server answers
              security: []
              responses:
                "200":
                  description: It does.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/Health" }
                default: { $ref: "#/components/responses/Error" }
          /openapi.yaml:
            get:
              summary: This description
              security: []
              responses:
                "200":
                  description: OpenAPI 3.0.
                  content:
                    application/yaml:
                      schema: {}
                default: { $ref: "#/components/responses/Error" }
          /metrics:
            get:
              summary: Metrics of the server, in the text form of Prometheus
              responses:
                "200":
                  description: Sums over all volumes.
                  content:
                    text/plain:
                      schema: { type: string }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes:
            get:
              summary: The volumes that the token may see
              responses:
                "200":
                  description: Sorted by name.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/VolumeListing" }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
            get:
              summary: Where the volume stands
              responses:
                "200": { $ref: "#/components/responses/Volume" }
                default: { $ref: "#/components/responses/Error" }
            put:
              summary: Makes the volume, or confirms that it is this one and this writer writes it
              requestBody:
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/VolumeRequest" }
              responses:
                "200": { $ref: "#/components/responses/Volume" }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/writer:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
            post:
              summary: Takes the volume over; the writer before is refused from then on
              requestBody:
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/WriterRequest" }
              responses:
                "200": { $ref: "#/components/responses/Volume" }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/retention:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
            put:
              summary: Changes the ladder; needs full access, unless the volume is empty
              requestBody:
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/RetentionRequest" }
              responses:
                "200": { $ref: "#/components/responses/Volume" }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/segments:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
            get:
              summary: All segments
              responses:
                "200":
                  description: Sorted by name, so by LSN.
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/SegmentListing" }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/segments/{segment}:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
              - name: segment
                in: path
                required: true
                schema:
                  type: string
                  pattern: '^[0-9]{20}-[0-9]{20}\.(log|merged|snapshot)\.segment$'
            get:
              summary: The bytes of a segment, or one range of them
              parameters:
                - name: Range
                  in: header
                  description: One range, for example bytes=0-127 or bytes=-256.
                  schema: { type: string }
              responses:
                "200":
                  description: All bytes.
                  content:
                    application/octet-stream:
                      schema: { type: string, format: binary }
                "206":
                  description: The range.
                  content:
                    application/octet-stream:
                      schema: { type: string, format: binary }
                default: { $ref: "#/components/responses/Error" }
            delete:
              summary: Removes a segment that nobody reads; needs full access
              responses:
                "204": { description: It is gone. }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/uploads/{upload}:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
              - name: upload
                in: path
                required: true
                schema: { $ref: "#/components/schemas/UploadID" }
            get:
              summary: How many bytes of the upload are there
              responses:
                "200": { $ref: "#/components/responses/Upload" }
                default: { $ref: "#/components/responses/Error" }
            patch:
              summary: Appends bytes
              parameters:
                - { $ref: "#/components/parameters/Writer" }
                - name: Upload-Offset
                  in: header
                  required: true
                  description: Where the body begins; how many bytes the upload has.
                  schema: { $ref: "#/components/schemas/Number" }
              requestBody:
                content:
                  application/octet-stream:
                    schema: { type: string, format: binary }
              responses:
                "200": { $ref: "#/components/responses/Upload" }
                default: { $ref: "#/components/responses/Error" }
            post:
              summary: Makes a segment of the upload, durable and visible when it is answered
              parameters:
                - { $ref: "#/components/parameters/Writer" }
              requestBody:
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/CommitRequest" }
              responses:
                "200":
                  description: The segment is there.
                  headers:
                    Logdisk-Load: { $ref: "#/components/headers/Load" }
                  content:
                    application/json:
                      schema: { $ref: "#/components/schemas/CommitReply" }
                default: { $ref: "#/components/responses/Error" }
            delete:
              summary: Gives the upload up
              parameters:
                - { $ref: "#/components/parameters/Writer" }
              responses:
                "204": { description: It is gone. }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/leases:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
            post:
              summary: Keeps segments from retention while they are read
              requestBody:
                required: true
                content:
                  application/json:
                    schema: { $ref: "#/components/schemas/LeaseRequest" }
              responses:
                "200": { $ref: "#/components/responses/Lease" }
                default: { $ref: "#/components/responses/Error" }
          /v1/volumes/{volume}/leases/{lease}:
            parameters:
              - { $ref: "#/components/parameters/Volume" }
              - name: lease
                in: path
                required: true
                schema: { $ref: "#/components/schemas/UploadID" }
            put:
              summary: Renews the lease
              responses:
                "200": { $ref: "#/components/responses/Lease" }
                default: { $ref: "#/components/responses/Error" }
            delete:
              summary: Ends the lease
              responses:
                "204": { description: It has ended. }
                default: { $ref: "#/components/responses/Error" }

        """#
}
