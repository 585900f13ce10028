/**
 * A container engine in memory, behind the same port: `--runtime simulated` runs everything else of Reckon where there is no Docker, and large tests use it. Containers run, exit and
 * can be signalled; logs are empty. An environment variable of the container says how it behaves: `RECKON_SIMULATED_EXIT=<code>[:<after ms>]`.
 */
import { createHash, randomBytes } from 'node:crypto';
import { EventEmitter, on } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import {
  RuntimeCallError,
  RuntimeUnavailableError,
  type Container,
  type ContainerRuntime,
  type ContainerSpec,
  type ExecOptions,
  type Image,
  type LogOptions,
  type Network,
  type RuntimeEvent,
  type RuntimeInfo,
  type Session,
  type Usage,
  type Volume,
} from '../container-runtime.ts';
import { normalizeImageReference } from '../image-reference.ts';

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = { HUP: 1, INT: 2, QUIT: 3, KILL: 9, TERM: 15 };
const EXIT_VARIABLE = 'RECKON_SIMULATED_EXIT';

interface Simulated {
  readonly spec: ContainerSpec;
  container: Container;
  exitTimer?: NodeJS.Timeout;
}

export class SimulatedRuntime implements ContainerRuntime {
  readonly kind = 'simulated';
  readonly #containers = new Map<string, Simulated>();
  readonly #idsByName = new Map<string, string>();
  readonly #images = new Map<string, Image>();
  readonly #volumes = new Map<string, Volume>();
  readonly #networks = new Map<string, Network>();
  readonly #events = new EventEmitter().setMaxListeners(0);
  readonly #clock: () => number;
  #down: string | undefined;

  constructor(options: { readonly now?: () => number } = {}) {
    this.#clock = options.now ?? Date.now;
  }

  /** Cuts every caller off, or lets them in again: what an engine that stops does. */
  setAvailable(available: boolean): void {
    const wasDown = this.#down !== undefined;
    this.#down = available ? undefined : 'the simulated engine is stopped';
    if (wasDown !== !available) this.#emit(available ? { kind: 'resync' } : { kind: 'down', reason: this.#down ?? '' });
  }

  /** Ends a container's process, as a crash does. */
  crash(id: string, exitCode = 1): void {
    const found = this.#find(id);
    if (found !== undefined) this.#exit(found, exitCode);
  }

  async info(): Promise<RuntimeInfo> {
    this.#check();
    return {
      id: 'simulated',
      name: 'simulated',
      version: '1.0.0',
      cpus: 64,
      memoryBytes: 256 * 2 ** 30,
      architecture: 'x86_64',
      operatingSystem: 'linux',
      osImage: 'simulated',
      kernelVersion: 'simulated',
    };
  }

  async listContainers(labels: Readonly<Record<string, string>>): Promise<readonly Container[]> {
    this.#check();
    return [...this.#containers.values()]
      .map(({ container }) => container)
      .filter((container) => hasLabels(container.labels, labels));
  }

  async inspectContainer(id: string): Promise<Container | undefined> {
    this.#check();
    return this.#find(id)?.container;
  }

  async createContainer(spec: ContainerSpec): Promise<string> {
    this.#check();
    if (this.#find(spec.name) !== undefined)
      throw new RuntimeCallError('conflict', `the container name "${spec.name}" is already in use`);
    const image = await this.inspectImage(spec.image);
    if (image === undefined) throw new RuntimeCallError('not-found', `No such image: ${spec.image}`);
    if (spec.network.kind === 'network' && !this.#networks.has(spec.network.network)) {
      throw new RuntimeCallError('not-found', `network ${spec.network.network} not found`);
    }
    const id = randomBytes(32).toString('hex');
    for (const mount of spec.mounts) if (mount.kind === 'volume') await this.ensureVolume(mount.volume, {});
    const address = spec.network.kind === 'network' ? spec.network.address : undefined;
    const container: Container = {
      id,
      name: spec.name,
      image: spec.image,
      imageId: image.id,
      labels: spec.labels,
      state: 'created',
      createdAtMs: this.#clock(),
      exitCode: 0,
      outOfMemory: false,
      error: '',
      tty: spec.tty ?? false,
      processId: 0,
      ...(address === undefined ? {} : { address }),
      volumes: spec.mounts.flatMap((mount) => (mount.kind === 'volume' ? [mount.volume] : [])),
    };
    this.#containers.set(id, { spec, container });
    this.#idsByName.set(spec.name, id);
    this.#emitContainer('create', container);
    return id;
  }

  async startContainer(id: string): Promise<void> {
    this.#check();
    const found = this.#find(id);
    if (found === undefined) throw new RuntimeCallError('not-found', `No such container: ${id}`);
    if (found.container.state === 'running') return;
    found.container = { ...found.container, state: 'running', startedAtMs: this.#clock(), processId: 1, exitCode: 0 };
    this.#emitContainer('start', found.container);
    const exit = found.spec.environment.find(({ name }) => name === EXIT_VARIABLE)?.value;
    if (exit === undefined) return;
    const [code = '0', afterMs = '0'] = exit.split(':');
    found.exitTimer = setTimeout(() => this.#exit(found, Number(code)), Number(afterMs));
    found.exitTimer.unref();
  }

  async signalContainer(id: string, signal: string): Promise<void> {
    this.#check();
    const found = this.#find(id);
    if (found === undefined || found.container.state !== 'running') return;
    const number = SIGNAL_NUMBERS[signal.replace(/^SIG/, '')];
    if (number !== undefined && number !== 1) this.#exit(found, 128 + number);
  }

  async removeContainer(id: string, options?: { readonly force?: boolean }): Promise<void> {
    this.#check();
    const found = this.#find(id);
    if (found === undefined) return;
    if (found.container.state === 'running') {
      if (options?.force !== true)
        throw new RuntimeCallError('conflict', 'you cannot remove a running container; stop it first');
      this.#exit(found, 137);
    }
    this.#containers.delete(found.container.id);
    this.#idsByName.delete(found.container.name);
    this.#emitContainer('destroy', found.container);
  }

  async killRemains(): Promise<number> {
    return 0;
  }

  async stopSignal(): Promise<string> {
    return 'TERM';
  }

  async logs(id: string, options: LogOptions): Promise<Readable> {
    this.#check();
    if (this.#find(id) === undefined) throw new RuntimeCallError('not-found', `No such container: ${id}`);
    const stream = new PassThrough();
    if (options.follow === true) options.signal?.addEventListener('abort', () => stream.end(), { once: true });
    else stream.end();
    return stream;
  }

  async exec(id: string, options: ExecOptions): Promise<Session> {
    this.#check();
    if (this.#find(id)?.container.state !== 'running')
      throw new RuntimeCallError('conflict', `container ${id} is not running`);
    return emptySession(options.stdin ?? false);
  }

  async attach(id: string, options: Omit<ExecOptions, 'command'>): Promise<Session> {
    this.#check();
    if (this.#find(id)?.container.state !== 'running')
      throw new RuntimeCallError('conflict', `container ${id} is not running`);
    return emptySession(options.stdin ?? false);
  }

  async usage(): Promise<Usage> {
    this.#check();
    return { cpuNanoseconds: 0, memoryBytes: 0, memoryWorkingSetBytes: 0, receivedBytes: 0, sentBytes: 0 };
  }

  async inspectImage(reference: string): Promise<Image | undefined> {
    this.#check();
    if (reference.startsWith('sha256:')) return [...this.#images.values()].find(({ id }) => id === reference);
    return this.#images.get(normalizeImageReference(reference));
  }

  async listImages(): Promise<readonly Image[]> {
    this.#check();
    return [...this.#images.values()];
  }

  /** Every image exists, except in a registry whose name ends in `.invalid`. */
  async pullImage(reference: string): Promise<void> {
    this.#check();
    const name = normalizeImageReference(reference);
    if (name.split('/')[0]?.endsWith('.invalid') === true)
      throw new RuntimeCallError('failed', `pull access denied for ${reference}: no such registry`);
    this.#addImage(name);
  }

  async importImage(reference: string, tar: Readable): Promise<string> {
    this.#check();
    tar.resume();
    return this.#addImage(normalizeImageReference(reference)).id;
  }

  async ensureVolume(name: string, labels: Readonly<Record<string, string>>): Promise<Volume> {
    this.#check();
    const existing = this.#volumes.get(name);
    if (existing !== undefined) return existing;
    const volume: Volume = { name, driver: 'local', labels, mountpoint: '', createdAtMs: this.#clock() };
    this.#volumes.set(name, volume);
    this.#emit({ kind: 'volume', action: 'create', name });
    return volume;
  }

  async inspectVolume(name: string): Promise<Volume | undefined> {
    this.#check();
    return this.#volumes.get(name);
  }

  async listVolumes(labels: Readonly<Record<string, string>>): Promise<readonly Volume[]> {
    this.#check();
    return [...this.#volumes.values()].filter((volume) => hasLabels(volume.labels, labels));
  }

  async removeVolume(name: string): Promise<void> {
    this.#check();
    if ([...this.#containers.values()].some(({ container }) => container.volumes.includes(name))) {
      throw new RuntimeCallError('conflict', `volume ${name} is in use`);
    }
    if (this.#volumes.delete(name)) this.#emit({ kind: 'volume', action: 'destroy', name });
  }

  async ensureNetwork(wanted: {
    readonly name: string;
    readonly subnet: string;
    readonly bridge: string;
    readonly labels: Readonly<Record<string, string>>;
  }): Promise<Network> {
    this.#check();
    const existing = this.#networks.get(wanted.name);
    if (existing !== undefined) return existing;
    const gateway = (wanted.subnet.split('/')[0] ?? '').replace(/\.0$/, '.1');
    const network: Network = { ...wanted, id: wanted.name, gateway };
    this.#networks.set(wanted.name, network);
    return network;
  }

  async removeNetwork(name: string): Promise<void> {
    this.#check();
    if (this.#networks.delete(name)) this.#emit({ kind: 'network', action: 'destroy', name });
  }

  async *events(options: {
    readonly labels: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
  }): AsyncGenerator<RuntimeEvent> {
    const incoming = on(this.#events, 'event', { signal: options.signal });
    yield { kind: 'resync' };
    try {
      for await (const [event] of incoming as AsyncIterable<[RuntimeEvent]>) {
        if (event.kind !== 'container' || hasLabels(event.labels, options.labels)) yield event;
      }
    } catch (error) {
      if (!options.signal.aborted) throw error;
    }
  }

  #check(): void {
    if (this.#down !== undefined) throw new RuntimeUnavailableError(this.#down);
  }

  #find(idOrName: string): Simulated | undefined {
    return this.#containers.get(idOrName) ?? this.#containers.get(this.#idsByName.get(idOrName) ?? '');
  }

  #addImage(reference: string): Image {
    const existing = this.#images.get(reference);
    if (existing !== undefined) return existing;
    const id = `sha256:${createHash('sha256').update(reference).digest('hex')}`;
    const image: Image = { id, tags: [reference], digests: [], sizeBytes: 0, user: '' };
    this.#images.set(reference, image);
    this.#emit({ kind: 'image', action: 'pull', reference });
    return image;
  }

  #exit(found: Simulated, exitCode: number): void {
    clearTimeout(found.exitTimer);
    if (found.container.state !== 'running') return;
    found.container = { ...found.container, state: 'exited', finishedAtMs: this.#clock(), exitCode, processId: 0 };
    this.#emitContainer('die', found.container);
  }

  #emitContainer(action: string, container: Container): void {
    this.#emit({ kind: 'container', action, id: container.id, labels: container.labels });
  }

  #emit(event: RuntimeEvent): void {
    this.#events.emit('event', event);
  }
}

function hasLabels(labels: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => labels[key] === value);
}

function emptySession(stdin: boolean): Session {
  return {
    stdin: stdin ? new PassThrough().resume() : undefined,
    stdout: Readable.from([]),
    stderr: Readable.from([]),
    resize: async () => undefined,
    exitCode: Promise.resolve(0),
    close: () => undefined,
  };
}
