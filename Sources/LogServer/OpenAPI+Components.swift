// The last part of docs/openapi.yaml. See OpenAPI.swift.

extension OpenAPI {
    static let components = #"""
        components:
          securitySchemes:
            token: { type: http, scheme: bearer }
          parameters:
            Volume:
              name: volume
              in: path
              required: true
              schema:
                type: string
                pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
            Writer:
              name: Logdisk-Writer
              in: header
              required: true
              description: Who writes; the id that VolumeRequest or WriterRequest named.
              schema: { $ref: "#/components/schemas/UploadID" }
            Device:
              name: device
              in: path
              required: true
              schema:
                type: string
                pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
            Set:
              name: set
              in: path
              required: true
              schema: { $ref: "#/components/schemas/SetID" }
            Run:
              name: Logdisk-Writer
              in: header
              required: true
              description: Who writes; chosen at random by each run.
              schema: { $ref: "#/components/schemas/UploadID" }
            Offset:
              name: Upload-Offset
              in: header
              required: true
              description: Where in the content the body begins; how many bytes of it are there.
              schema: { type: integer, minimum: 0, maximum: 4611686018427387903 }
            HeadBytes:
              name: Logdisk-Head-Bytes
              in: header
              description: Bytes in front of the content; the same in all requests of a file.
              schema: { type: integer, minimum: 0, maximum: 1048576, default: 0 }
          headers:
            Load:
              description: How busy the server is, from 0 to 1.
              schema: { type: number, minimum: 0, maximum: 1 }
          responses:
            Volume:
              description: Where the volume stands.
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Volume" }
            Upload:
              description: How many bytes the upload has.
              headers:
                Logdisk-Load: { $ref: "#/components/headers/Load" }
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Upload" }
            Lease:
              description: It lives so many seconds without being renewed.
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Lease" }
            Set:
              description: The set.
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Set" }
            Error:
              description: >-
                Why it was not done. 400 malformed; 401 unauthenticated; 403 forbidden; 404 missing,
                no_volume, no_path; 409 other_volume, fenced, gap, fork, old, offset, leased,
                complete, exists, clock; 413 too_large; 416 range; 422 damaged; 500 failed;
                503 full, busy.
              headers:
                Retry-After:
                  description: With 503, seconds to wait.
                  schema: { type: integer }
              content:
                application/json:
                  schema: { $ref: "#/components/schemas/Error" }
          schemas:
            UploadID:
              type: string
              pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,159}$'
            Digest:
              type: string
              pattern: '^[0-9A-Fa-f]{64}$'
            Number:
              type: integer
              minimum: 0
              maximum: 18446744073709551615
            Health:
              type: object
              required: [service, version]
              properties:
                service: { type: string, enum: [logdisk] }
                version: { type: string }
            VolumeListing:
              type: object
              required: [volumes]
              properties:
                volumes:
                  type: array
                  items: { $ref: "#/components/schemas/Volume" }
            VolumeRequest:
              type: object
              required: [uuid, size_bytes, writer, host, sealed]
              properties:
                uuid: { $ref: "#/components/schemas/UUID" }
                size_bytes:
                  type: integer
                  minimum: 512
                  multipleOf: 512
                  maximum: 9223372036854775808
                writer: { $ref: "#/components/schemas/UploadID" }
                host: { $ref: "#/components/schemas/Host" }
                sealed: { type: boolean, description: Whether segments come encrypted. }
                keep: { $ref: "#/components/schemas/Ladder" }
            WriterRequest:
              type: object
              required: [writer, host, generation]
              properties:
                writer: { $ref: "#/components/schemas/UploadID" }
                host: { $ref: "#/components/schemas/Host" }
                generation:
                  type: integer
                  minimum: 0
                  maximum: 18446744073709551615
                  description: The one the caller knows; another one tells that somebody was faster.
            RetentionRequest:
              type: object
              properties:
                keep: { $ref: "#/components/schemas/Ladder" }
            UUID:
              type: string
              pattern: '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$'
            Host:
              type: string
              maxLength: 255
              description: In words, for people; at most 255 bytes, no control characters.
            Ladder:
              type: string
              nullable: true
              maxLength: 1000
              description: The retention rule; absent, everything is kept.
              example: every 24h, 1m 7d
            Volume:
              type: object
              required:
                [name, uuid, size_bytes, sealed, writer, generation, host, snapshot_count,
                 segment_count, segment_bytes]
              properties:
                name: { type: string }
                uuid: { $ref: "#/components/schemas/UUID" }
                size_bytes: { $ref: "#/components/schemas/Number" }
                sealed: { type: boolean }
                keep: { type: string }
                writer: { type: string }
                generation: { $ref: "#/components/schemas/Number" }
                host: { type: string }
                head: { $ref: "#/components/schemas/Head" }
                snapshot_count: { type: integer }
                segment_count: { type: integer }
                segment_bytes: { $ref: "#/components/schemas/Number" }
            Head:
              type: object
              description: The end of the records; absent where there are none.
              required: [lsn, wall_nanoseconds]
              properties:
                lsn: { $ref: "#/components/schemas/Number" }
                wall_nanoseconds: { type: integer, format: int64 }
                digest: { $ref: "#/components/schemas/Digest" }
            SegmentListing:
              type: object
              required: [segments]
              properties:
                segments:
                  type: array
                  items:
                    type: object
                    required: [name, bytes]
                    properties:
                      name: { type: string }
                      bytes: { $ref: "#/components/schemas/Number" }
            Upload:
              type: object
              required: [bytes]
              properties:
                bytes: { $ref: "#/components/schemas/Number" }
            CommitRequest:
              type: object
              required: [name, bytes, gap]
              anyOf: [{ required: [sha256] }, { required: [digest] }]
              properties:
                name:
                  type: string
                  pattern: '^[0-9]{20}-[0-9]{20}\.(log|merged|snapshot)\.segment$'
                bytes: { $ref: "#/components/schemas/Number" }
                sha256:
                  allOf: [{ $ref: "#/components/schemas/Digest" }]
                  description: Over all bytes of the upload.
                digest:
                  allOf: [{ $ref: "#/components/schemas/Digest" }]
                  description: The digest in the segment's footer, over every byte before it.
                after:
                  type: string
                  nullable: true
                  pattern: '^[0-9A-Fa-f]{64}$'
                  description: The digest of the head that the segment follows.
                gap:
                  type: boolean
                  description: Records between the head and this snapshot are known to be missing.
            CommitReply:
              type: object
              required: [was_there]
              properties:
                was_there: { type: boolean }
                head: { $ref: "#/components/schemas/Head" }
            LeaseRequest:
              type: object
              required: [purpose, holder]
              properties:
                purpose: { type: string, maxLength: 200 }
                holder: { type: string, maxLength: 1000 }
                at:
                  type: integer
                  minimum: 0
                  maximum: 18446744073709551615
                  nullable: true
                segments:
                  type: array
                  nullable: true
                  items:
                    type: string
                    pattern: '^[0-9]{20}-[0-9]{20}\.(log|merged|snapshot)\.segment$'
            Lease:
              type: object
              required: [id, seconds]
              properties:
                id: { type: string }
                seconds: { type: integer }
            SetID:
              type: string
              pattern: '^[0-9a-f]{32}$'
            SetName:
              type: string
              minLength: 1
              maxLength: 100
              pattern: '^[^/.\u0000-\u0020\u007f-][^/\u0000-\u0020\u007f]*$'
              description: At most 100 bytes.
            SetRequest:
              type: object
              required: [name, device_id, created_nanoseconds]
              properties:
                name: { $ref: "#/components/schemas/SetName" }
                device_id: { $ref: "#/components/schemas/SetID" }
                created_nanoseconds: { type: integer, format: int64 }
            Set:
              type: object
              required: [id, name, device_id, created_nanoseconds, complete, manifest]
              properties:
                id: { $ref: "#/components/schemas/SetID" }
                name: { type: string }
                device_id: { $ref: "#/components/schemas/SetID" }
                created_nanoseconds: { type: integer, format: int64 }
                complete: { type: boolean, description: Whether it is visible. }
                manifest: { type: boolean, description: Whether its manifest is there. }
                file_count: { type: integer }
                bytes: { $ref: "#/components/schemas/Number" }
            Backup:
              type: object
              required: [name, access, free_bytes, sets]
              properties:
                name: { type: string }
                access: { type: string, enum: [read-only, append-only, full] }
                free_bytes: { $ref: "#/components/schemas/Number" }
                sets:
                  type: array
                  items: { $ref: "#/components/schemas/Set" }
            SetFileListing:
              type: object
              required: [files]
              properties:
                files:
                  type: array
                  items:
                    type: object
                    required: [name, bytes]
                    properties:
                      name: { type: string }
                      bytes: { $ref: "#/components/schemas/Number" }
            SetFileReply:
              type: object
              required: [was_there]
              properties:
                was_there: { type: boolean, description: The same was there already. }
            Error:
              type: object
              required: [code, what]
              properties:
                code:
                  type: string
                  enum:
                    [malformed, unauthenticated, forbidden, missing, no_volume, no_path,
                     other_volume, fenced, gap, fork, old, offset, leased, complete, exists, clock,
                     too_large, damaged, range, full, busy, failed]
                what: { type: string }
                hint: { type: string }
                bytes: { $ref: "#/components/schemas/Number" }

        """#
}
