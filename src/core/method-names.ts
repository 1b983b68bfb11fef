/**
 * The names that options of methods may have: `pkg.Service/Method`, with or without a slash in front, and `pkg.Service`.
 *
 * `Service` is a generated type, or a union of such types: the service definition or the client of ts-proto
 * (`outputServices=grpc-js`, `generic-definitions` or `nice-grpc`), or the `ProtoGrpcType` of proto-loader-gen-types. For a
 * type that does not hold the names of methods, and without one, any text is a name.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export type MethodName<Service = unknown> = unknown extends Service ? string : NameIn<Service>;

/**
 * Options by method or service. Where the type of a service is given, a name that it does not have is a compile error.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/configuration.md
 */
export type ByMethod<Options, Service = unknown> =
  string extends MethodName<Service>
    ? Readonly<Record<string, Options>>
    : { readonly [Name in MethodName<Service>]?: Options };

/** Of each member of a union. */
type NameIn<Service> = Service extends { readonly service: infer Definition }
  ? NameIn<Definition>
  : Service extends {
        readonly fullName: infer Full extends string;
        readonly methods: infer Methods;
      }
    ? Full | `${"" | "/"}${Full}/${NameOf<Methods[keyof Methods]>}`
    : Service extends Readonly<Record<string, { readonly path: infer Path extends string }>>
      ? NameOfPath<Path>
      : NameInPackage<Service>;

type NameOf<Method> = Method extends { readonly name: infer Name extends string } ? Name : never;

type NameOfPath<Path extends string> = Path extends `/${infer Service}/${infer Method}`
  ? Service | `${"" | "/"}${Service}/${Method}`
  : string;

/** Packages of proto-loader are objects in objects, and their services are constructors of clients. */
type NameInPackage<Package, Prefix extends string = ""> = {
  [Name in keyof Package & string]: Package[Name] extends { readonly service: infer Definition }
    ? `${Prefix}${Name}` | `${"" | "/"}${Prefix}${Name}/${KnownKey<Definition>}`
    : Package[Name] extends { readonly format: string }
      ? never
      : NameInPackage<Package[Name], `${Prefix}${Name}.`>;
}[keyof Package & string];

/** The keys of an interface that has an index signature, too. */
type KnownKey<T> = keyof {
  [Key in keyof T as string extends Key ? never : number extends Key ? never : Key]: true;
} &
  string;
