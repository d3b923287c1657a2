// Aedes with the users of the battery and LevelDB. Arguments: folder, port.
import { createServer } from 'node:net'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.env.KPSTREAM_AEDES + '/package.json')
const load = async (name) => import(pathToFileURL(require.resolve(name)))
const { Aedes } = await load('aedes')
const { Level } = await load('level')
const persist = (await load('aedes-persistence-level')).default
const [folder, port] = process.argv.slice(2)

const broker = await Aedes.createBroker({
  persistence: persist(new Level(folder + '/level')),
  authenticate: (client, user, password, done) => {
    client.user = user
    if (String(password) === 'right') return done(null, true)
    done(Object.assign(new Error('bad password'), { returnCode: 4 }), null)
  },
  authorizePublish: (client, packet, done) => {
    const refused = client?.user === 'nowrite' && packet.topic.startsWith('sensors/')
    done(refused ? new Error('not authorised') : null)
  },
  authorizeSubscribe: (client, subscription, done) => {
    const refused = client?.user === 'noread' && subscription.topic.startsWith('sensors/')
    done(null, refused ? null : subscription)
  },
})
const server = createServer(broker.handle)
server.listen(Number(port), '127.0.0.1')
process.on('SIGTERM', () => { server.close(); broker.close(() => process.exit(0)) })
