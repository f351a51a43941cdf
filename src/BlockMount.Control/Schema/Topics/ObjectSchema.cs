namespace BlockMount.Control.Schema;

/// <summary>Objects beside nodes: secrets, limits, threads.</summary>
internal static class ObjectSchema
{
    internal const string Text = """
        enum ObjectType: iothread secret throttle-group
        enum QCryptoSecretFormat: raw base64

        struct IothreadProperties
          *aio-max-batch: int
          *thread-pool-min: int
          *thread-pool-max: int
          *poll-max-ns: int
          *poll-grow: int
          *poll-shrink: int

        struct SecretProperties
          *loaded: bool {deprecated}
          *format: QCryptoSecretFormat | 'raw' by default.
          *keyid: str | Name of the secret that this one is encrypted with.
          *iv: str
          *data: str | This or file.
          *file: str

        struct ThrottleLimits
          *iops-total: int
          *iops-total-max: int
          *iops-total-max-length: int
          *iops-read: int
          *iops-read-max: int
          *iops-read-max-length: int
          *iops-write: int
          *iops-write-max: int
          *iops-write-max-length: int
          *bps-total: int
          *bps-total-max: int
          *bps-total-max-length: int
          *bps-read: int
          *bps-read-max: int
          *bps-read-max-length: int
          *bps-write: int
          *bps-write-max: int
          *bps-write-max-length: int
          *iops-size: int

        struct ThrottleGroupProperties
          *limits: ThrottleLimits
          *x-iops-total: int {unstable}
          *x-iops-total-max: int {unstable}
          *x-iops-total-max-length: int {unstable}
          *x-iops-read: int {unstable}
          *x-iops-read-max: int {unstable}
          *x-iops-read-max-length: int {unstable}
          *x-iops-write: int {unstable}
          *x-iops-write-max: int {unstable}
          *x-iops-write-max-length: int {unstable}
          *x-bps-total: int {unstable}
          *x-bps-total-max: int {unstable}
          *x-bps-total-max-length: int {unstable}
          *x-bps-read: int {unstable}
          *x-bps-read-max: int {unstable}
          *x-bps-read-max-length: int {unstable}
          *x-bps-write: int {unstable}
          *x-bps-write-max: int {unstable}
          *x-bps-write-max-length: int {unstable}
          *x-iops-size: int {unstable}

        union ObjectOptions on qom-type
          qom-type: ObjectType
          id: str
          when iothread: IothreadProperties
          when secret: SecretProperties
          when throttle-group: ThrottleGroupProperties

        command object-add
          | Makes an object.
          args ObjectOptions

        command object-del
          | Removes an object that nobody uses.
          id: str

        struct ObjectPropertyInfo
          name: str
          type: str
          *description: str
          *default-value: any

        command qom-list
          | The properties of an object, or the objects below a path.
          path: str
          returns [ObjectPropertyInfo]

        command qom-get
          | A property of an object.
          path: str
          property: str
          returns any
        """;
}
