// #region module
import { Module, type OnApplicationShutdown } from "@nestjs/common";
import { createWeir, type Weir } from "grpc-weir";

/** One for the process. The options of a server are needed before there are modules, so it is made here. */
export const weir: Weir = createWeir();

/** For `@Inject(WEIR)`. */
export const WEIR = Symbol("weir");

@Module({ providers: [{ provide: WEIR, useValue: weir }], exports: [WEIR] })
export class WeirModule implements OnApplicationShutdown {
  onApplicationShutdown(): void {
    weir.close();
  }
}
// #endregion
