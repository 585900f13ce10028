/**
 * The addresses of the pods of this node: one for each pod, out of the node's range, never one for two. Known again after a restart from the labels of the containers that are
 * there and from the pods' status.
 */

/** The network's own address, its gateway and its broadcast address belong to nobody. */
const RESERVED_AT_START = 2;
const RESERVED_AT_END = 1;

export class AddressPool {
  readonly #first: number;
  readonly #count: number;
  readonly #byPod = new Map<string, string>();
  readonly #taken = new Map<string, string>();
  #next = 0;

  /** `cidr` such as `10.64.16.0/20`. */
  constructor(cidr: string) {
    const [base = '', bits = '24'] = cidr.split('/');
    this.#first = toNumber(base) + RESERVED_AT_START;
    this.#count = 2 ** (32 - Number(bits)) - RESERVED_AT_START - RESERVED_AT_END;
  }

  of(uid: string): string | undefined {
    return this.#byPod.get(uid);
  }

  entries(): ReadonlyMap<string, string> {
    return this.#byPod;
  }

  /** Notes an address that a pod has had before. False when another pod has it now. */
  claim(uid: string, address: string): boolean {
    const holder = this.#taken.get(address);
    if (holder !== undefined && holder !== uid) return false;
    const index = toNumber(address) - this.#first;
    if (index < 0 || index >= this.#count) return false;
    if (this.#byPod.get(uid) === address) return true;
    this.release(uid);
    this.#taken.set(address, uid);
    this.#byPod.set(uid, address);
    return true;
  }

  /** The pod's address; the same one each time until it is released. An address is used again as late as can be. */
  allocate(uid: string): string {
    const existing = this.#byPod.get(uid);
    if (existing !== undefined) return existing;
    for (let tried = 0; tried < this.#count; tried++) {
      const address = toAddress(this.#first + ((this.#next + tried) % this.#count));
      if (this.#taken.has(address)) continue;
      this.#next = (this.#next + tried + 1) % this.#count;
      this.#taken.set(address, uid);
      this.#byPod.set(uid, address);
      return address;
    }
    throw new Error(`no address is left in the node's range of ${this.#count}`);
  }

  release(uid: string): void {
    const address = this.#byPod.get(uid);
    if (address === undefined) return;
    this.#byPod.delete(uid);
    this.#taken.delete(address);
  }

  /** Somebody outside holds the pod's address: it gets another one, and nobody gets this one. */
  banish(uid: string): void {
    const address = this.#byPod.get(uid);
    if (address === undefined) return;
    this.#byPod.delete(uid);
    this.#taken.set(address, 'somebody else');
  }
}

function toNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

function toAddress(value: number): string {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff].join('.');
}
