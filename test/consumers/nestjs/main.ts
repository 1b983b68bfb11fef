// A microservice of NestJS and a client of it, both with the toolkit. Prints what was seen as JSON.
import "reflect-metadata";
import { join } from "node:path";
import { Metadata, type Server, status } from "@grpc/grpc-js";
import {
  type CallHandler,
  type CanActivate,
  Controller,
  type ExecutionContext,
  Inject,
  Injectable,
  Module,
  type NestInterceptor,
  UseGuards,
  UseInterceptors,
} from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import {
  type ClientGrpc,
  ClientsModule,
  GrpcMethod,
  type MicroserviceOptions,
  RpcException,
  Transport,
} from "@nestjs/microservices";
import { currentCall, rejectionOf } from "grpc-weir";
import { firstValueFrom, type Observable, tap } from "rxjs";
import { WEIR, WeirModule, weir } from "./weir-module.js";

const seen: string[] = [];
// A socket of the file system: NestJS does not say which port it got.
const url = `unix:${join(import.meta.dirname, "shop.sock")}`;
const grpc = { package: "shop", protoPath: join(import.meta.dirname, "shop.proto"), url };

interface Inventory {
  getStock(request: { sku: string }, metadata?: Metadata): Observable<{ quantity: number }>;
}

// #region guard
/** Callers of low priority get nothing from here. */
@Injectable()
class NotForBatches implements CanActivate {
  canActivate(): boolean {
    if (currentCall()?.priority !== "low") return true;
    throw new RpcException({ code: status.PERMISSION_DENIED, message: "not for batches" });
  }
}
// #endregion

// #region interceptor
@Injectable()
class TimeLeft implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const leftMs = currentCall()?.remainingMs() ?? 0;
    return next.handle().pipe(tap(() => seen.push(leftMs > 0 ? "time left" : "no time left")));
  }
}
// #endregion

@Controller()
class InventoryController {
  @Inject(WEIR) readonly injected: typeof weir | undefined;

  @UseGuards(NotForBatches)
  @UseInterceptors(TimeLeft)
  @GrpcMethod("Inventory", "GetStock")
  async getStock({ sku }: { sku: string }): Promise<{ sku: string; quantity: number }> {
    await Promise.resolve();
    seen.push(`${currentCall()?.priority} ${this.injected === weir}`);
    if (seen.length === 1) throw new RpcException({ code: status.UNAVAILABLE, message: "not yet" });
    return { sku, quantity: 42 };
  }
}

@Module({ imports: [WeirModule], controllers: [InventoryController] })
class InventoryModule {}

// #region client
@Module({
  imports: [
    ClientsModule.register([
      {
        name: "INVENTORY",
        transport: Transport.GRPC,
        options: {
          ...grpc,
          channelOptions: weir.client({
            deadline: { defaultMs: 5_000 },
            methods: { "shop.Inventory/GetStock": { retry: { idempotent: true } } },
          }),
        },
      },
    ]),
  ],
  exports: [ClientsModule],
})
class ShopModule {}
// #endregion

// #region server
let server: Server | undefined;
const service = await NestFactory.createMicroservice<MicroserviceOptions>(InventoryModule, {
  transport: Transport.GRPC,
  options: {
    ...grpc,
    channelOptions: weir.server({ admission: {} }),
    // The server of grpc-js, for weir.drain().
    onLoadPackageDefinition(_package, made) {
      server = made;
    },
  },
  logger: ["error"],
});
await service.listen();
// #endregion

const shop = await NestFactory.createApplicationContext(ShopModule, { logger: ["error"] });
const inventory = shop.get<ClientGrpc>("INVENTORY").getService<Inventory>("Inventory");
const withPriority = (priority: string) => {
  const metadata = new Metadata();
  metadata.set("x-request-priority", priority);
  return firstValueFrom(inventory.getStock({ sku: "boots" }, metadata));
};
const { quantity } = await withPriority("high");
const failure = async (call: Promise<unknown>): Promise<Record<string, unknown>> => {
  try {
    await call;
    return {};
  } catch (error) {
    return { code: Reflect.get(Object(error), "code"), reason: rejectionOf(error)?.reason };
  }
};
const refused = await failure(withPriority("low"));
const attempts = weir.history().last.find(({ side }) => side === "client");

// #region drain
// On SIGTERM, and before service.close().
if (server === undefined) throw new Error("the server has not been started");
const report = await weir.drain(server, { noticeMs: 0, graceMs: 5_000 });
// #endregion
const afterwards = await failure(withPriority("high"));
await shop.close();
await service.close();
console.log(JSON.stringify({ quantity, seen, refused, kind: attempts?.kind, report, afterwards }));
