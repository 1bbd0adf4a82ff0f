// The TypeScript way: an agent on AWS's SDK that says what it does, asks before it books, and takes the answer.
import { BedrockAgentCoreApp } from 'bedrock-agentcore/runtime'

/** What the backend sends, as far as this agent reads it: docs/agents.md has all of it. */
type Payload = {
  prompt: string
  resume?: { interruptId: string; status: 'resolved' | 'cancelled'; payload?: unknown }[]
}

// In the place of your own directory, database or search.
const VENDORS = [
  { id: 'v1', name: 'Green Fern', service: 'landscaper', city: 'charlotte', price: 240 },
  { id: 'v2', name: 'Dogwood Care', service: 'landscaper', city: 'charlotte', price: 195 },
  { id: 'v3', name: 'Lone Brush', service: 'painter', city: 'austin', price: 390 },
]

/** What it yields are lines of the timeline, and at the end the answer. */
async function* work({ prompt, resume }: Payload) {
  if (resume) {
    yield* goOn(resume[0])
    return
  }
  yield { message: 'Comparing prices' }
  const words = prompt.toLowerCase()
  const vendors = VENDORS.filter(({ service, city }) => words.includes(service) && words.includes(city))
  const [best] = vendors.sort((one, other) => one.price - other.price)
  if (!best) {
    yield { response: 'I know nobody for that. Name a service and a city.' }
    return
  }
  const message = `${best.name} asks $${best.price}. Shall I book it?`
  // The id says all that is needed to go on, so that the answer may come tomorrow, to a new process.
  const question = { id: `book-${best.id}`, message, response_schema: { type: 'boolean' } }
  yield { response: message, vendors, interrupts: [question] }
}

/** Takes the person's answer to the one question that it asks. */
async function* goOn({ interruptId, status, payload }: NonNullable<Payload['resume']>[number]) {
  const vendor = VENDORS.find(({ id }) => interruptId === `book-${id}`)
  if (!vendor || status === 'cancelled' || payload !== true) {
    yield { response: 'Nothing was booked.' }
    return
  }
  yield { message: `Booking ${vendor.name}` }
  yield { response: `${vendor.name} is booked for $${vendor.price}.`, vendors: [vendor] }
}

const app = new BedrockAgentCoreApp({
  invocationHandler: { process: (payload) => work(payload as Payload) },
})
app.run({ port: Number(process.env.PORT ?? 8080) })
